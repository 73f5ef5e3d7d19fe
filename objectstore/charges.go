package objectstore

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Sent is how many requests go to stores, by the provider's name and the operation.
type Sent map[string]map[string]int64

// Add counts n requests.
func (s Sent) Add(provider, operation string, n int64) {
	if s[provider] == nil {
		s[provider] = map[string]int64{}
	}
	s[provider][operation] += n
}

// Providers returns the names of the providers that any request goes to, sorted.
func (s Sent) Providers() []string {
	var names []string
	for name := range s {
		if s.Total(name) > 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Total returns how many requests go to the stores of a provider.
func (s Sent) Total(provider string) int64 {
	var sum int64
	for _, n := range s[provider] {
		sum += n
	}
	return sum
}

// Charge is how many requests of one class go to a provider, and what they cost at most.
type Charge struct {
	Provider string
	Class    string // as the provider calls it; "" where it has none, or none is known
	Requests int64
	Price    *Price // nil where it is unknown
}

// Charges returns the requests to one provider by class, most first.
func (s Sent) Charges(provider string) []Charge {
	p, ok := Lookup(provider)
	if !ok {
		p = &Provider{}
	}
	classes := map[string]int64{}
	for op, n := range s[provider] {
		if n > 0 {
			classes[p.Class(op)] += n
		}
	}
	var all []Charge
	for class, n := range classes {
		c := Charge{Provider: provider, Class: class, Requests: n}
		if price, ok := p.Prices[class]; ok {
			c.Price = &price
		}
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b Charge) int {
		return cmp.Or(cmp.Compare(b.Requests, a.Requests), strings.Compare(a.Class, b.Class))
	})
	return all
}

// Classes words the requests to one provider by its classes, and what they cost as far as that is known: "3 class C, 2 class B; free
// up to 2,500 a day of each". It is "" where nothing is known.
func (s Sent) Classes(provider string) string {
	charges := s.Charges(provider)
	if len(charges) == 0 {
		return ""
	}
	var parts []string
	for _, c := range charges {
		if c.Class != "" && c.Class != onlyClass {
			parts = append(parts, grouped(c.Requests)+" "+className(c.Class))
		}
	}
	if cost := costOf(charges); cost != "" {
		if len(parts) == 0 {
			return cost
		}
		return strings.Join(parts, ", ") + "; " + cost
	}
	return strings.Join(parts, ", ")
}

// onlyClass is the class of stores that count all requests alike.
const onlyClass = "request"

func className(class string) string {
	if len(class) == 1 {
		return "class " + class
	}
	return class
}

// costOf words what charges cost. What is free up to an amount is, for what else the account sent nobody knows here.
func costOf(charges []Charge) string {
	var most float64
	currency := ""
	free := map[string][]string{} // classes by what of them is free
	gratis := false
	for _, c := range charges {
		switch {
		case c.Price == nil:
			return ""
		case c.Price.PerThousand == 0:
			gratis = true
			continue
		case c.Price.Free > 0:
			words := fmt.Sprintf("%s a %s", grouped(c.Price.Free), c.Price.FreePer)
			free[words] = append(free[words], c.Class)
		}
		most += float64(c.Requests) * c.Price.PerThousand / 1000
		currency = c.Price.Currency
	}
	if most == 0 {
		return "free of charge"
	}
	if len(free) == 0 {
		return money(most, currency)
	}
	var parts []string
	for _, words := range slices.Sorted(maps.Keys(free)) {
		switch {
		case len(free) > 1 || gratis:
			words += " of " + strings.Join(slices.Sorted(slices.Values(free[words])), ", ")
		case len(free[words]) > 1:
			words += " of each"
		}
		parts = append(parts, words)
	}
	text := "free up to " + strings.Join(parts, ", ")
	if most >= cent {
		text += ", else " + money(most, currency)
	}
	return text
}

const cent = 0.01

// money words an amount: "about $1.35".
func money(amount float64, currency string) string {
	sign := map[string]string{"USD": "$", "EUR": "€"}[currency]
	if amount < cent {
		return fmt.Sprintf("less than %s%.2f", sign, cent)
	}
	return fmt.Sprintf("about %s%.2f", sign, amount)
}

// grouped writes a number with a comma before each three digits.
func grouped(n int64) string {
	text := strconv.FormatInt(n, 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// Sent returns how many requests went out to all stores, repeated ones included; nil where there is no store.
func (c *Clients) Sent() Sent {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.stores) == 0 {
		return nil
	}
	sent := Sent{}
	for _, s := range c.stores {
		s.mu.Lock()
		for op, n := range s.requests {
			sent.Add(s.provider.Name, op, n)
		}
		s.mu.Unlock()
	}
	return sent
}
