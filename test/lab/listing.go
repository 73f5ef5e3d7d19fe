package lab

import (
	"bytes"
	"encoding/xml"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
)

// encoded are the elements of a listing that encoding-type=url applies to (Amazon S3 API reference, ListObjectsV2).
var encoded = regexp.MustCompile(`<(Key|Prefix|Delimiter|StartAfter|Marker|NextMarker)>([^<]*)</`)

// encodeListing encodes the names in a listing where the caller asked for it, which versitygw 1.8.0 leaves out: with a plus
// for a space, as Amazon S3 and MinIO do.
func encodeListing(c *call, resp *http.Response) error {
	if !strings.HasPrefix(c.operation, "List") || c.query.Get("encoding-type") != "url" || resp.StatusCode != http.StatusOK {
		return nil
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	discard(resp.Body)
	body = encoded.ReplaceAllFunc(body, func(element []byte) []byte {
		m := encoded.FindSubmatch(element)
		name := strings.ReplaceAll(encodePath(plainText(m[2])), "%20", "+")
		return []byte("<" + string(m[1]) + ">" + name + "</")
	})
	body = bytes.Replace(body, []byte("<EncodingType></EncodingType>"), nil, 1)
	body = bytes.Replace(body, []byte("</Name>"), []byte("</Name><EncodingType>url</EncodingType>"), 1)
	resp.Body = io.NopCloser(bytes.NewReader(body))
	resp.Header.Set("Content-Length", strconv.Itoa(len(body)))
	return nil
}

// plainText is the text of an element's content.
func plainText(content []byte) string {
	var text string
	if err := xml.Unmarshal([]byte("<t>"+string(content)+"</t>"), &text); err != nil {
		return string(content)
	}
	return text
}
