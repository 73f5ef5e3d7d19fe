#!/bin/sh
# Fills dist/, which the Vagrantfile puts into the machines as /opt/converge: the agent, the services, the instance, an example,
# and the list of Debian packages that an instance host has.
set -eu
cd "$(dirname "$0")/../.."
mkdir -p dist
export CGO_ENABLED=0
go build -trimpath -ldflags '-s -w' -o dist/converge ./cmd/converge
cd test
go build -trimpath -buildvcs=false -ldflags '-s -w' -o ../dist/services ./e2e/cmd/services
go build -trimpath -buildvcs=false -ldflags '-s -w' -o ../dist/instance ./e2e/cmd/instance
cp ../examples/backblaze-b2.hcl ../dist/
go run ./e2e/cmd/packages instance bookworm >../dist/packages
