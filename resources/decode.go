package resources

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/converge-agent/converge/secret"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/gocty"
)

// Decode fills the struct that into points to from a checked configuration. A field takes the attribute that its tag names:
//
//	Store objectstore.Config `attr:"store"`
//
// Fields may be string, bool, int64, secret.String, time.Duration (of a Duration attribute), Bytes (of a Size or Rate),
// slices and string-keyed maps of those, structs and pointers to structs (of blocks and references), Address and []Address
// (of references; every instance of a for_each counts). A null leaves the zero value; a nil pointer is an absent block.
// An embedded struct without a tag, such as Ownership, takes its attributes from the same block.
// A secret decoded into anything but a secret.String is an error, and so is any other type: both are faults of the kind.
func Decode(config cty.Value, into any) error {
	return decodeStruct(config, reflect.ValueOf(into).Elem(), nil)
}

// Bytes is a number of bytes, or of bytes a second.
type Bytes int64

var (
	secretType   = reflect.TypeOf(secret.String{})
	durationType = reflect.TypeOf(time.Duration(0))
	bytesType    = reflect.TypeOf(Bytes(0))
	addressType  = reflect.TypeOf(Address{})
	addressList  = reflect.TypeOf([]Address{})
)

func decodeStruct(v cty.Value, out reflect.Value, path []string) error {
	bare, _ := v.Unmark() // a mark on the whole object was put on its values too, or hides nothing that we decode
	for i := range out.NumField() {
		field := out.Type().Field(i)
		name := field.Tag.Get("attr")
		if name == "" && field.Anonymous && field.Type.Kind() == reflect.Struct {
			if err := decodeStruct(v, out.Field(i), path); err != nil {
				return err
			}
			continue
		}
		if name == "" || !bare.Type().HasAttribute(name) {
			continue
		}
		if err := decodeValue(bare.GetAttr(name), out.Field(i), append(path[:len(path):len(path)], name)); err != nil {
			return err
		}
	}
	return nil
}

func decodeValue(v cty.Value, out reflect.Value, path []string) error {
	if v.IsNull() {
		return nil
	}
	switch out.Type() {
	case secretType:
		out.Set(reflect.ValueOf(secret.FromValue(v)))
		return nil
	case addressType, addressList:
		return decodeAddresses(v, out, path)
	}
	if v.IsMarked() {
		return &AttrError{path, fmt.Errorf("the value is secret, and would not be kept so here")}
	}
	var err error
	switch {
	case out.Type() == durationType:
		var d time.Duration
		d, err = ParseDuration(v.AsString())
		out.SetInt(int64(d))
	case out.Type() == bytesType:
		var n int64
		n, err = ParseSize(strings.TrimSuffix(v.AsString(), "/s"))
		out.SetInt(n)
	case out.Kind() == reflect.Struct:
		return decodeStruct(v, out, path)
	case out.Kind() == reflect.Pointer:
		p := reflect.New(out.Type().Elem())
		out.Set(p)
		return decodeStruct(v, p.Elem(), path)
	case out.Kind() == reflect.Slice:
		return decodeSlice(v, out, path)
	case out.Kind() == reflect.Map:
		return decodeMap(v, out, path)
	default:
		err = gocty.FromCtyValue(v, out.Addr().Interface())
	}
	if err != nil {
		return &AttrError{path, err}
	}
	return nil
}

func decodeSlice(v cty.Value, out reflect.Value, path []string) error {
	out.Set(reflect.MakeSlice(out.Type(), 0, v.LengthInt()))
	for i, e := range v.AsValueSlice() {
		item := reflect.New(out.Type().Elem()).Elem()
		if err := decodeValue(e, item, append(path[:len(path):len(path)], strconv.Itoa(i))); err != nil {
			return err
		}
		out.Set(reflect.Append(out, item))
	}
	return nil
}

func decodeMap(v cty.Value, out reflect.Value, path []string) error {
	out.Set(reflect.MakeMap(out.Type()))
	for key, e := range v.AsValueMap() {
		item := reflect.New(out.Type().Elem()).Elem()
		if err := decodeValue(e, item, append(path[:len(path):len(path)], key)); err != nil {
			return err
		}
		out.SetMapIndex(reflect.ValueOf(key), item)
	}
	return nil
}

func decodeAddresses(v cty.Value, out reflect.Value, path []string) error {
	all := AddressesIn(v)
	if len(all) == 0 && !v.IsKnown() {
		return &AttrError{path, fmt.Errorf("it is not a reference")}
	}
	if out.Type() == addressList {
		out.Set(reflect.ValueOf(all))
		return nil
	}
	if len(all) != 1 {
		return &AttrError{path, fmt.Errorf("it names %d resources instead of one", len(all))}
	}
	out.Set(reflect.ValueOf(all[0]))
	return nil
}

// Reference is the value that a resource has in expressions: its exports, and its address under the name address.
func Reference(addr Address, exports cty.Value) cty.Value {
	attrs := map[string]cty.Value{}
	if exports != cty.NilVal && !exports.IsNull() && exports.Type().IsObjectType() {
		for name := range exports.Type().AttributeTypes() {
			attrs[name] = exports.GetAttr(name)
		}
	}
	attrs["address"] = cty.CapsuleVal(AddressType, &addr)
	return cty.ObjectVal(attrs)
}

// AddressType is the type of a reference's address. Being a type of its own, no string can pass for one.
var AddressType = cty.Capsule("resource address", addressType)

// AddressesIn returns the addresses of the references in v: v itself, or, of a for_each or a list, its elements in order.
func AddressesIn(v cty.Value) []Address {
	v, _ = v.Unmark()
	if !v.IsKnown() || v.IsNull() {
		return nil
	}
	t := v.Type()
	if t.Equals(AddressType) {
		return []Address{*v.EncapsulatedValue().(*Address)}
	}
	if t.IsObjectType() && t.HasAttribute("address") && t.AttributeType("address").Equals(AddressType) {
		return AddressesIn(v.GetAttr("address"))
	}
	var out []Address
	if v.CanIterateElements() {
		for it := v.ElementIterator(); it.Next(); {
			_, e := it.Element()
			out = append(out, AddressesIn(e)...)
		}
	}
	return out
}
