// One look-up by Go's own resolver (package net, PreferGo): lookup any|ipv4|ipv6 NAME. Exit 0 with the addresses, 2 when there are none.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: lookup any|ipv4|ipv6 NAME")
		os.Exit(1)
	}
	network, known := map[string]string{"any": "ip", "ipv4": "ip4", "ipv6": "ip6"}[os.Args[1]]
	if !known {
		fmt.Fprintln(os.Stderr, "no such family:", os.Args[1])
		os.Exit(1)
	}
	resolver := net.Resolver{PreferGo: true}
	found, err := resolver.LookupNetIP(context.Background(), network, os.Args[2])
	if err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
	for _, address := range found {
		fmt.Println(address.Unmap())
	}
}
