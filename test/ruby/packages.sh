#!/bin/sh
# Installs Ruby and the libraries that Mastodon uses of it, for test/ruby, where they are missing. Without root it names them.
set -eu
ruby -e 'require "aws-sdk-s3"; require "dotenv"' >/dev/null 2>&1 && exit 0
packages="ruby ruby-aws-sdk-s3 ruby-dotenv"
if [ "$(id -u)" != 0 ]; then
	echo "Debian packages are missing; ask root to run: apt-get install --no-install-recommends $packages" >&2
	exit 1
fi
echo "installing $packages"
export DEBIAN_FRONTEND=noninteractive
apt-get -o Acquire::Retries=3 update -qq
# shellcheck disable=SC2086 # a list of packages
apt-get -o Acquire::Retries=3 install -y -qq --no-install-recommends $packages >/dev/null
