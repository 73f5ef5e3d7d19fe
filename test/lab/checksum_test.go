package lab_test

import (
	"context"
	"crypto/md5"
	"encoding/base64"
	"io"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// withoutChecksum has a call carry Content-MD5 instead of the checksum that the SDK puts on some calls always.
func withoutChecksum(o *s3.Options) {
	o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
		return stack.Finalize.Insert(middleware.FinalizeMiddlewareFunc("ContentMD5", func(
			ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler,
		) (middleware.FinalizeOutput, middleware.Metadata, error) {
			r := in.Request.(*smithyhttp.Request)
			for name := range r.Header {
				if strings.HasPrefix(strings.ToLower(name), "x-amz-checksum-") || strings.EqualFold(name, "X-Amz-Sdk-Checksum-Algorithm") {
					r.Header.Del(name)
				}
			}
			body := r.GetStream()
			if body == nil {
				return next.HandleFinalize(ctx, in)
			}
			h := md5.New()
			if _, err := io.Copy(h, body); err != nil {
				return middleware.FinalizeOutput{}, middleware.Metadata{}, err
			}
			if err := r.RewindStream(); err != nil {
				return middleware.FinalizeOutput{}, middleware.Metadata{}, err
			}
			r.Header.Set("Content-MD5", base64.StdEncoding.EncodeToString(h.Sum(nil)))
			return next.HandleFinalize(ctx, in)
		}), "Signing", middleware.Before)
	})
}
