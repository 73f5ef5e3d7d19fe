package objectstore

import (
	"encoding/xml"
	"io"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
)

// TestABatchNamesNoObjectTwice: Ceph's gateway may end by it, and with it all that others have there.
func TestABatchNamesNoObjectTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		batches := 0
		s, _ := serveInBubble(t, func(w http.ResponseWriter, r *http.Request) {
			switch r.Method {
			case http.MethodHead:
				w.WriteHeader(http.StatusNotFound)
				return
			case http.MethodPost:
			default:
				answerAll(w, r)
				return
			}
			batches++
			var asked struct {
				Object []struct {
					Key     string
					Version string `xml:"VersionId"`
				}
			}
			body, err := io.ReadAll(r.Body)
			if err == nil {
				err = xml.Unmarshal(body, &asked)
			}
			for i, o := range asked.Object {
				if slices.Contains(asked.Object[:i], o) {
					t.Errorf("%v is named twice", o)
				}
			}
			if err != nil || len(asked.Object) < 2 {
				t.Errorf("the batch is %s, %v", body, err)
			}
			_, _ = io.WriteString(w, "<DeleteResult/>")
		})
		if _, err := s.Capabilities(t.Context(), CapabilityProbes{Bucket: "media"}); err != nil || batches == 0 {
			t.Errorf("%d batches, %v", batches, err)
		}
	})
}
