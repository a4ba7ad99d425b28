package wgkey

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
)

// ParsePublicKey reads the base64 form. The error never contains the input: a private key may have been pasted by mistake.
func ParsePublicKey(s string) (PublicKey, error) {
	b, err := parse(s)
	return PublicKey(b), err
}

// ParsePrivateKey reads the base64 form. The error never contains the input.
func ParsePrivateKey(s string) (PrivateKey, error) {
	b, err := parse(s)
	if err != nil {
		return PrivateKey{}, err
	}
	return PrivateKey{newSecret(b)}, nil
}

// ParsePublicKeyHex reads the form of WireGuard's cross-platform configuration protocol. The error never contains the input.
func ParsePublicKeyHex(s string) (PublicKey, error) {
	b, err := parseHex(s)
	return PublicKey(b), err
}

// ParsePrivateKeyHex reads the form of WireGuard's cross-platform configuration protocol. The error never contains the input.
func ParsePrivateKeyHex(s string) (PrivateKey, error) {
	b, err := parseHex(s)
	if err != nil {
		return PrivateKey{}, err
	}
	return PrivateKey{newSecret(b)}, nil
}

// ParsePresharedKeyHex reads the form of WireGuard's cross-platform configuration protocol. The error never contains the input.
func ParsePresharedKeyHex(s string) (PresharedKey, error) {
	b, err := parseHex(s)
	if err != nil {
		return PresharedKey{}, err
	}
	return PresharedKey{newSecret(b)}, nil
}

// parse accepts exactly one spelling per key: package base64 alone would skip line breaks inside.
func parse(s string) ([Size]byte, error) {
	if len(s) == base64.StdEncoding.EncodedLen(Size) {
		if b, err := base64.StdEncoding.Strict().DecodeString(s); err == nil && len(b) == Size {
			return [Size]byte(b), nil
		}
	}
	return [Size]byte{}, fmt.Errorf("%w: want base64 of %d bytes", ErrMalformed, Size)
}

func parseHex(s string) (b [Size]byte, err error) {
	if len(s) == hex.EncodedLen(Size) {
		if _, err := hex.Decode(b[:], []byte(s)); err == nil {
			return b, nil
		}
	}
	return [Size]byte{}, fmt.Errorf("%w: want %d hexadecimal digits", ErrMalformed, hex.EncodedLen(Size))
}

// PresharedKeyOf takes the bytes of a key. The zero value is no key.
func PresharedKeyOf(b [Size]byte) PresharedKey { return PresharedKey{newSecret(b)} }
