package nginxsite_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/converge-agent/converge/resources"
	"github.com/converge-agent/converge/resources/nginxsite"
	"github.com/converge-agent/converge/resources/resourcetest"
	"github.com/zclconf/go-cty/cty"
)

// TestProxyOfACustomDomain: the bucket that is read at a domain of its own is asked there, under that name.
func TestProxyOfACustomDomain(t *testing.T) {
	c := resourcetest.Case{
		Kind: nginxsite.Kind(), Setup: debian,
		Config: media(map[string]cty.Value{"bucket": bucket("cloudflare-r2", "https://r2.example.com")}),
	}
	h := c.NewHost()
	if err := converge(t, c, h); err != nil {
		t.Fatal(err)
	}
	f, err := h.Files.Lookup(available)
	if err != nil || f == nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"proxy_pass https://r2.example.com$media_path_", "proxy_set_header Host r2.example.com;",
		"proxy_ssl_server_name on;", "proxy_ssl_name r2.example.com;", "proxy_ssl_verify on;",
	} {
		if !strings.Contains(string(f.Content), want) {
			t.Errorf("the site does not say %s\n%s", want, f.Content)
		}
	}
}

// TestProxyOfItselfIsRefused: a bucket that is read at the name of the site would have nginx ask itself.
func TestProxyOfItselfIsRefused(t *testing.T) {
	kind := nginxsite.Kind()
	for _, url := range []string{"https://files.example.com", "https://Files.example.com:8443"} {
		config, errs := kind.Complete(cty.ObjectVal(media(map[string]cty.Value{"bucket": bucket("cloudflare-r2", url)})))
		if len(errs) > 0 {
			t.Fatal(errs)
		}
		_, _, err := kind.New(resources.Address{Kind: "nginx_site", Name: "files"}, config)
		var attr *resources.AttrError
		if !errors.As(err, &attr) || strings.Join(attr.Path, ".") != "media_proxy.bucket" || !strings.Contains(err.Error(), "public_host") {
			t.Errorf("%s: error = %v, want one at media_proxy.bucket that speaks of public_host", url, err)
		}
	}
}
