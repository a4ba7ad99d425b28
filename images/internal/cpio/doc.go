// Package cpio writes archives in the "newc" format, the one that the kernel unpacks as an initramfs
// (Documentation/driver-api/early-userspace/buffer-format.rst).
//
// Everything belongs to root and has no time, so that the same input gives the same bytes. It reads no archives.
//
// State: none.
package cpio
