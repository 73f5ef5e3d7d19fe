// Package plans turns the nodes of a configuration into a plan, and a plan into reality. It reads every resource in the
// order of the graph against an overlay of what those before it would write, shows what each would do, applies it, and
// reads again for the proof. It knows resources only by their contract.
package plans
