//go:build tools

// Package tools pins kind: the version in go.mod, its checksum and those of all it needs in go.sum.
package tools

import _ "sigs.k8s.io/kind"
