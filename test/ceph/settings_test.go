package ceph

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

func (b *bucketAt) setCORS(t *testing.T, rules ...types.CORSRule) {
	t.Helper()
	if _, err := b.PutBucketCors(t.Context(), &s3.PutBucketCorsInput{Bucket: &b.name, CORSConfiguration: &types.CORSConfiguration{CORSRules: rules}}); err != nil {
		t.Fatal(err)
	}
}

func (b *bucketAt) setLifecycle(t *testing.T, rules ...types.LifecycleRule) {
	t.Helper()
	if _, err := b.PutBucketLifecycleConfiguration(t.Context(), &s3.PutBucketLifecycleConfigurationInput{
		Bucket: &b.name, LifecycleConfiguration: &types.BucketLifecycleConfiguration{Rules: rules},
	}); err != nil {
		t.Fatal(err)
	}
}

func (b *bucketAt) setVersioning(t *testing.T, status types.BucketVersioningStatus) {
	t.Helper()
	if _, err := b.PutBucketVersioning(t.Context(), &s3.PutBucketVersioningInput{
		Bucket: &b.name, VersioningConfiguration: &types.VersioningConfiguration{Status: status},
	}); err != nil {
		t.Fatal(err)
	}
}

// settings are the names of the rules, and whether versions are kept, in one line.
func (b *bucketAt) settings(t *testing.T) string {
	t.Helper()
	cors, err := b.GetBucketCors(t.Context(), &s3.GetBucketCorsInput{Bucket: &b.name})
	if err != nil {
		t.Fatal(err)
	}
	lifecycle, err := b.GetBucketLifecycleConfiguration(t.Context(), &s3.GetBucketLifecycleConfigurationInput{Bucket: &b.name})
	if err != nil {
		t.Fatal(err)
	}
	versioning, err := b.GetBucketVersioning(t.Context(), &s3.GetBucketVersioningInput{Bucket: &b.name})
	if err != nil {
		t.Fatal(err)
	}
	var ofCORS, ofLifecycle []string
	for _, rule := range cors.CORSRules {
		ofCORS = append(ofCORS, aws.ToString(rule.ID))
	}
	for _, rule := range lifecycle.Rules {
		ofLifecycle = append(ofLifecycle, aws.ToString(rule.ID))
	}
	slices.Sort(ofCORS)
	slices.Sort(ofLifecycle)
	return fmt.Sprintf("CORS %s, lifecycle %s, versioning %s", strings.Join(ofCORS, " "), strings.Join(ofLifecycle, " "), versioning.Status)
}
