//go:build tools

// Package kind pins kind and everything that it is built from.
package kind

import _ "sigs.k8s.io/kind"
