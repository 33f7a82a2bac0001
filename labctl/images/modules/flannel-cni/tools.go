//go:build tools

// Package flannelcni pins flannel's CNI plugin at the last release of the plugins repository that held it.
package flannelcni

import _ "github.com/containernetworking/plugins/plugins/meta/flannel"
