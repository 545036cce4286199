// The lesson's handshake with Go's net package: server PORT TIMEOUT.
package main

import (
	"fmt"
	"net"
	"os"
	"time"
)

func serve(peer net.Conn, timeout time.Duration) {
	defer peer.Close()
	peer.SetDeadline(time.Now().Add(timeout))
	token := make([]byte, 1024)
	count, err := peer.Read(token)
	if err != nil {
		return
	}
	if count == 1 && token[0] == '1' {
		peer.Write([]byte("welcome to server!"))
	} else {
		peer.Write([]byte("please go out!"))
	}
}

func main() {
	timeout, err := time.ParseDuration(os.Args[2] + "s")
	if err != nil {
		panic(err)
	}
	// The backlog is net.core.somaxconn; 4096 unless somebody has changed it.
	port, err := net.Listen("tcp", "127.0.0.1:"+os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for {
		if peer, err := port.Accept(); err == nil {
			go serve(peer, timeout)
		}
	}
}
