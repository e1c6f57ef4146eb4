// SPDX-License-Identifier: Apache-2.0

// Fetches URL and prints status and body; trusts CA.pem.  Built without cgo it is static and does its own DNS.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
)

func main() {
	pem, err := os.ReadFile(os.Args[1])
	check(err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	client := http.Client{Transport: &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{RootCAs: pool}}}
	r, err := client.Get(os.Args[2])
	check(err)
	body, err := io.ReadAll(r.Body)
	check(err)
	fmt.Printf("%d %s", r.StatusCode, body)
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
