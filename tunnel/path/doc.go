// Package path decides by which way one peer is reached: through a relay, or directly. It is a pure state machine with the authenticated
// probes that it needs: events and the time go in, probes to send and a way to take come out. It opens no socket, has no clock and no
// goroutine, and never sees a WireGuard packet.
//
//	            candidates
//	Relayed ──────────────────▶ Opening ──── a probe came back ────▶ Validating
//	   ▲                        ▲  │  │                                │     │
//	   │ no candidates          │  │  └─ only they reach us ─┐         │     │ a second one came back
//	   │                        │  │                         ▼         │     ▼
//	   │          hold-off over │  │ nothing came back   Asymmetric    │   Direct
//	   │                        │  ▼                         │         │     │
//	   └────────────────────── HoldOff ◀── hold-off over ────┘◀────────┘◀────┘ silence
//
// In every state but Direct the way is the relay. An own address that changed leads back to Opening from everywhere.
//
// # Rules
//
//   - The relay is first, and is never given up: leaving Direct needs nobody's consent and no packet.
//   - The way moves only to an address from which probes came back twice, so that both directions are known to work.
//   - Of the two ends one opens, the one with the lower public key. The other follows Stagger later, or when it hears the first probe.
//   - In Direct a probe goes every Beat; Misses of them without an answer, Retry apart, end it.
//   - What failed is left alone for a time that doubles, up to HoldMax; StableFor in Direct forgets it.
//   - If only one direction works, that is a state with its own hold-off, and not a reason to try again and again.
//   - No more than Burst probes at once and PerMinute over time leave for one peer, and an answer is as long as its question.
package path
