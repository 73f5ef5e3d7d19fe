package nginx_test

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/converge-agent/converge/nginx/nginxtest"
)

// store is an S3 endpoint as far as anonymous GETs go, over TLS. It says of each request what it saw.
type store struct {
	*httptest.Server
	mu       sync.Mutex
	objects  map[string][]byte // by the path as it came over the wire, below the bucket
	fail     int               // answer everything with this status, when it is not 0
	seen     []seen
	gate     chan struct{} // while set, answers wait for it to be closed
	noRanges bool
}

type seen struct {
	Method, URI, Host, SNI, Proto string
	Header                        http.Header
}

func newStore(t *testing.T, pair nginxtest.Pair) *store {
	s := &store{objects: map[string][]byte{}}
	s.Server = httptest.NewUnstartedServer(s)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair.TLS}}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func (s *store) port() string {
	return s.Listener.Addr().String()[strings.LastIndexByte(s.Listener.Addr().String(), ':')+1:]
}

func (s *store) put(key string, content []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects[key] = content
}

func (s *store) remove(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.objects, key)
}

func (s *store) failWith(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = status
}

func (s *store) requests() []seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]seen(nil), s.seen...)
}

func (s *store) last(t *testing.T) seen {
	t.Helper()
	all := s.requests()
	if len(all) == 0 {
		t.Fatal("no request reached the store")
	}
	return all[len(all)-1]
}

func (s *store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.seen = append(s.seen, seen{r.Method, r.RequestURI, r.Host, r.TLS.ServerName, r.Proto, r.Header.Clone()})
	content, ok := s.objects[strings.TrimPrefix(r.RequestURI, "/bucket")]
	fail, gate := s.fail, s.gate
	if s.noRanges {
		r.Header.Del("Range")
	}
	s.mu.Unlock()
	if gate != nil {
		<-gate
	}
	for name, value := range map[string]string{
		"Access-Control-Allow-Origin": "https://other.example", "Set-Cookie": "a=b", "x-amz-request-id": "1", "x-amz-id-2": "2",
		"Cache-Control": "public, max-age=315576000, immutable", "Vary": "Origin", "Expires": "Thu, 01 Jan 2099 00:00:00 GMT",
		"Etag": `"abc"`, "Content-Type": "image/png", "X-Accel-Redirect": "/etc/passwd",
	} {
		w.Header().Set(name, value)
	}
	switch {
	case fail != 0:
		http.Error(w, "<Error/>", fail)
	case r.RequestURI == "/" || strings.Contains(r.RequestURI, "list-type"):
		_, _ = io.WriteString(w, "<ListBucketResult/>")
	case !ok:
		http.Error(w, "<Error><Code>NoSuchKey</Code></Error>", http.StatusNotFound)
	default:
		http.ServeContent(w, r, "", time.Unix(1e9, 0), bytes.NewReader(content))
	}
}

// nameServer answers every question for an A record with 127.0.0.1 (RFC 1035, section 4.1), and others with nothing.
func nameServer(t *testing.T) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	go func() {
		buf := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			end := 12
			for end < n && buf[end] != 0 {
				end += int(buf[end]) + 1
			}
			end += 5 // the root label, type and class
			if end > n {
				continue
			}
			answer := append([]byte(nil), buf[:end]...)
			copy(answer[2:12], []byte{0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0})
			if binary.BigEndian.Uint16(buf[end-4:]) == 1 {
				answer[7] = 1
				answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4)
				answer = append(answer, netip.MustParseAddr("127.0.0.1").AsSlice()...)
			}
			_, _ = conn.WriteTo(answer, from)
		}
	}()
	return conn.LocalAddr().String()
}
