// Package linktest has a link.Linker in memory for tests of what uses one.
package linktest
