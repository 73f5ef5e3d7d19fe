package objectstore

import "errors"

// fixUntrue is the advice for an answer that cannot be true; "" for other errors.
func fixUntrue(err error) string {
	switch {
	case errors.Is(err, ErrListing):
		return "Nothing was concluded from it. Run it again; if it stays so, the store or a proxy before it is broken: tell who runs it."
	case errors.Is(err, ErrDigest):
		return "Run it again: a file that was being written is copied then. If it stays so, something between this host and the store " +
			"changes what passes, or the bucket encrypts with a key of its own (SSE-KMS), so that its ETags are no MD5: take that off."
	}
	return ""
}
