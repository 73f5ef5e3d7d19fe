package services

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"

	"github.com/miekg/dns"
)

// names is a name server that knows addresses of IPv4, and answers for the whole of the internet: what it does not know does
// not exist.
type names struct {
	mu     sync.RWMutex
	byName map[string]net.IP // "*.name" stands for all names one label below that are not known themselves
}

// answerLife is how long an answer may be kept, in seconds: names change while machines run.
const answerLife = 1

// set gives a name an address; an empty ip takes it away.
func (n *names) set(name, ip string) error {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	n.mu.Lock()
	defer n.mu.Unlock()
	if ip == "" {
		delete(n.byName, name)
		return nil
	}
	address := net.ParseIP(ip).To4()
	if address == nil {
		return fmt.Errorf("resolve %s: %q is no IPv4 address", name, ip)
	}
	n.byName[name] = address
	return nil
}

// get returns the address of a name, or nil.
func (n *names) get(name string) net.IP {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	n.mu.RLock()
	defer n.mu.RUnlock()
	if ip, ok := n.byName[name]; ok {
		return ip
	}
	_, parent, _ := strings.Cut(name, ".")
	return n.byName["*."+parent]
}

// ServeDNS answers one question. It is exported for package dns alone.
func (n *names) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	a := new(dns.Msg).SetReply(q)
	a.Authoritative, a.RecursionAvailable = true, true
	if o := q.IsEdns0(); o != nil {
		a.SetEdns0(o.UDPSize(), false)
	}
	if len(q.Question) == 1 {
		asked := q.Question[0]
		switch ip := n.get(asked.Name); {
		case ip == nil:
			a.Rcode = dns.RcodeNameError
		case asked.Qtype == dns.TypeA || asked.Qtype == dns.TypeANY:
			header := dns.RR_Header{Name: asked.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: answerLife}
			a.Answer = []dns.RR{&dns.A{Hdr: header, A: ip}}
		}
	}
	_ = w.WriteMsg(a) // who does not get it asks again
}

// serve answers at an address until ctx ends. Either server's end goes to ended.
func (n *names) serve(ctx context.Context, addr string, ended chan<- error) error {
	var c net.ListenConfig
	udp, err := c.ListenPacket(ctx, "udp", addr)
	if err != nil {
		return fmt.Errorf("start the name server: %w", err)
	}
	tcp, err := c.Listen(ctx, "tcp", addr)
	if err != nil {
		_ = udp.Close() // what failed says enough
		return fmt.Errorf("start the name server: %w", err)
	}
	for _, s := range []*dns.Server{{PacketConn: udp}, {Listener: tcp}} {
		s.Handler = n
		context.AfterFunc(ctx, func() { _ = s.Shutdown() }) // nobody is left to tell
		go func() { ended <- s.ActivateAndServe() }()
	}
	return nil
}
