package nginx

import (
	"net/netip"
	"strings"
)

// Resolvers returns the parameters of nginx's resolver directive for the name servers of a resolv.conf(5): its addresses,
// IPv6 in brackets, and ipv6=off where a name server beyond this host is reached by IPv4, so that the host has IPv4 and the
// AAAA records of a store could only lead into a network that may not work. nginx itself never reads resolv.conf or
// /etc/hosts for names that it looks up while running (nginx.org, ngx_http_core_module, resolver).
func Resolvers(resolvConf []byte) []string {
	var out []string
	ipv4 := false
	for line := range strings.Lines(string(resolvConf)) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		addr, err := netip.ParseAddr(fields[1])
		if err != nil || addr.Zone() != "" { // nginx cannot take an address with a zone: fe80::1%eth0
			continue
		}
		if addr.Is4() {
			ipv4 = ipv4 || !addr.IsLoopback()
			out = append(out, addr.String())
		} else {
			out = append(out, "["+addr.String()+"]")
		}
	}
	if ipv4 {
		out = append(out, "ipv6=off")
	}
	return out
}

// HostsAddress returns the first address that hosts(5) content gives name, in nginx's spelling, or "".
func HostsAddress(hosts []byte, name string) string {
	for line := range strings.Lines(string(hosts)) {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		addr, err := netip.ParseAddr(fields[0])
		if err != nil || addr.Zone() != "" {
			continue
		}
		for _, f := range fields[1:] {
			if !strings.EqualFold(f, name) {
				continue
			}
			if addr.Is4() {
				return addr.String()
			}
			return "[" + addr.String() + "]"
		}
	}
	return ""
}
