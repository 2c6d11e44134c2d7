#!/usr/bin/env bash
# README.md and docs name files, headings, options and metrics that are there. Usage: tests/lint/docs.sh
source "$(dirname "$0")/lib.sh"

need node nodejs
node tests/lint/docs.mjs
