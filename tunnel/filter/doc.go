// Package filter is the third lock: one table of packet filter rules (nftables, inet family) which keeps clinical ports and overlay
// addresses off every interface but the tunnel's, keeps the tunnel's inside to what is offered, and forwards nothing between the two.
//
// What the rules are is pure: a Ruleset is compiled into a program, which Render shows in the language of nft(8) and Kernel loads over
// netlink, the whole table in one transaction. The base chains accept all that is not ours, so that the machine is not cut off, and a drop
// is final whatever other tables say, so that no other firewall on the machine can open what is closed here.
//
// It never touches tables, chains or rules that it did not make, and knows nothing of peers, plans or services.
//
// State: the table lives in the kernel and outlives the process on purpose. Only Remove takes it away.
package filter
