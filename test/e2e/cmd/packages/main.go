// Command packages prints the Debian packages of a machine, one on a line, for what makes machines outside Go.
package main

import (
	"fmt"
	"os"
	"slices"

	"github.com/converge-agent/converge/test/e2e/machines"
)

func main() {
	roles := []machines.Role{machines.Instance, machines.Services}
	if len(os.Args) != 3 || !slices.Contains(roles, machines.Role(os.Args[1])) {
		fmt.Fprintln(os.Stderr, "usage: packages instance|services RELEASE")
		os.Exit(2)
	}
	for _, name := range machines.Packages(machines.Role(os.Args[1]), os.Args[2]) {
		fmt.Println(name)
	}
}
