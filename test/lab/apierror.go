package lab

import (
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
)

// apiError is an error as an S3 server answers it.
type apiError struct {
	status        int
	code, message string
}

func (e *apiError) Error() string { return fmt.Sprintf("%d %s: %s", e.status, e.code, e.message) }

// The errors that all fronts know (Amazon S3 API reference, "Error responses").
var (
	errUnsupportedSignature = &apiError{400, "InvalidRequest", "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."}
	errMalformedSignature   = &apiError{400, "AuthorizationHeaderMalformed", "The authorization header that you provided is not valid."}
	errExpired              = &apiError{403, "AccessDenied", "Request has expired"}
	errSkewed               = &apiError{403, "RequestTimeTooSkewed", "The difference between the request time and the server's time is too large."}
	errWrongSignature       = &apiError{403, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided. Check your key and signing method."}
	errAccessDenied         = &apiError{403, "AccessDenied", "Access Denied"}
	errNoSuchBucket         = &apiError{404, "NoSuchBucket", "The specified bucket does not exist"}
	errNotImplemented       = &apiError{501, "NotImplemented", "A header you provided implies functionality that is not implemented"}
	errMalformedXML         = &apiError{400, "MalformedXML", "The XML you provided was not well-formed or did not validate against our published schema"}
	errChunkSignatures      = &apiError{501, "NotImplemented", "The lab does not take signed chunks; send the body unsigned or with its SHA-256, over TLS"}
)

func errUnknownKey(key string) *apiError {
	return &apiError{403, "InvalidAccessKeyId", fmt.Sprintf("The AWS access key ID you provided does not exist in our records: %s", key)}
}

func errWrongRegion(want, got string) *apiError {
	return &apiError{400, "AuthorizationHeaderMalformed", fmt.Sprintf("The authorization header is malformed; the region '%s' is wrong; expecting '%s'", got, want)}
}

// errorDocument is the body of an answer that is an error.
type errorDocument struct {
	XMLName   xml.Name `xml:"Error"`
	Code      string
	Message   string
	Region    string `xml:",omitempty"`
	Resource  string
	RequestID string `xml:"RequestId"`
}

// expectedRegion is what an error of a wrong region names in words, and in an element of its own besides.
var expectedRegion = regexp.MustCompile(`expecting '([^']+)'`)

func (e *apiError) document(resource string) errorDocument {
	d := errorDocument{Code: e.code, Message: e.message, Resource: resource, RequestID: "lab"}
	if m := expectedRegion.FindStringSubmatch(e.message); m != nil {
		d.Region = m[1]
	}
	return d
}

// write answers r with the error. A HEAD has no body, so its client sees the status alone.
func (e *apiError) write(w http.ResponseWriter, r *http.Request) {
	writeXML(w, r, e.status, e.document(r.URL.Path))
}

// writeXML answers r with a document.
func writeXML(w http.ResponseWriter, r *http.Request, status int, document any) {
	body, err := xml.Marshal(document)
	if err != nil {
		panic(err) // the documents are ours
	}
	writeBody(w, r, status, append([]byte(xml.Header), body...))
}

// writeBody reads the request's body first: a connection that is closed with unread bytes is reset, and its answer with it.
func writeBody(w http.ResponseWriter, r *http.Request, status int, body []byte) {
	_, _ = io.Copy(io.Discard, r.Body) // a client that went away will not read the answer either
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "application/xml")
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // a client that went away has no use for it
	}
}
