//go:build race

package router

// The race detector makes sync.Pool forget at random.
const underRace = true
