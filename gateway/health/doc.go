// Package health keeps the box's Conditions: named facts with a severity, since when they hold, and what to do about them.
//
// It never finds anything out by itself and never logs; whoever knows a fact raises or clears it.
//
// State: the set of Conditions of one process, in memory.
package health
