//go:build tools

// Package ci pins the linter of the workflows and everything that it is built from.
package ci

import _ "github.com/rhysd/actionlint/cmd/actionlint"
