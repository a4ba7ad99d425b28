// Package receipts is a box's journal of what was delivered: for each item when, where to, what the far end answered, the digest of its bytes,
// and where there is one the far gateway's signed word. Who has an object can have it shown that it arrived.
//
// The journal is bounded by size and age. Its records are chained by SHA-256, so that one that was changed, moved or taken out from among
// others is noticed; what was cut off at the end is noticed by who knows the last hash. What identifies content is encrypted with a key that
// is not in the journal.
//
// State: one folder with files of lines. A receipt is synced before its item is forgotten, so that a power cut loses neither; one that the disk
// refuses waits in memory.
package receipts
