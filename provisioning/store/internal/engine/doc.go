// Package engine is what the engines of store.Store have in common: the columns that every one of them stores in the same form, the
// words of their errors, the order of their migrations and how watchers wait.
//
// It contains no SQL and knows no engine.
//
// State: none of its own; a Watch belongs to its Store.
package engine
