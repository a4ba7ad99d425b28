// Package kmod finds modules of a Linux kernel and what they depend on, by reading the files themselves, and loads them. It needs
// neither depmod nor the kmod tools.
//
// Files must not be compressed. What is built into the kernel is read from modules.builtin.
//
// State: a Tree is an index of one folder at one time.
package kmod
