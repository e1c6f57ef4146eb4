// SPDX-License-Identifier: Apache-2.0

// A TLS server of another make than OpenSSL: it takes hellos that OpenSSL refuses.  usage: tls_server ADDRESS CERT KEY
package main

import (
	"crypto/tls"
	"fmt"
	"os"
)

func main() {
	cert, err := tls.LoadX509KeyPair(os.Args[2], os.Args[3])
	check(err)
	l, err := tls.Listen("tcp", os.Args[1], &tls.Config{Certificates: []tls.Certificate{cert}})
	check(err)
	for {
		c, err := l.Accept()
		check(err)
		go func() {
			defer c.Close()
			fmt.Fprintln(c, "reached by another make of TLS")
		}()
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
