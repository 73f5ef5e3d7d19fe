package lab

import "net/http"

// Operation returns what a request asks this store for, by its name in the Amazon S3 API reference: "PutObject".
func (s *S3) Operation(r *http.Request) string { return parseCall(r, s.rules.domains()).operation }
