//go:build tools

// Package metallb pins the load balancer, whose controller-runtime is not the one that fits the node module.
package metallb

import (
	_ "go.universe.tf/metallb/controller"
	_ "go.universe.tf/metallb/speaker"
)
