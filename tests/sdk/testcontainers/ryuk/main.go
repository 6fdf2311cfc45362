// Stands in for testcontainers' reaper: takes filters on port 8080, and once the last client is gone for a while removes
// through the mounted Docker socket every container that they name.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"
)

var engine = http.Client{Transport: &http.Transport{
	DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", "/var/run/docker.sock")
	},
}}

func fail(err error) {
	if err != nil {
		fmt.Println("Error!", err)
		os.Exit(1)
	}
}

// reap removes what the filters of one client (a query, label=a=b&label=c=d) name.
func reap(query string) {
	values, err := url.ParseQuery(query)
	fail(err)
	filters, err := json.Marshal(map[string][]string(values))
	fail(err)
	reply, err := engine.Get("http://docker/v1.44/containers/json?all=1&filters=" + url.QueryEscape(string(filters)))
	fail(err)
	var found []struct{ ID string }
	fail(json.NewDecoder(reply.Body).Decode(&found))
	for _, one := range found {
		request, err := http.NewRequest(http.MethodDelete, "http://docker/v1.44/containers/"+one.ID+"?force=1&v=1", nil)
		fail(err)
		reply, err := engine.Do(request)
		fail(err)
		fmt.Println("Removed", one.ID, reply.Status)
	}
}

func main() {
	patience, err := time.ParseDuration(os.Getenv("RYUK_RECONNECTION_TIMEOUT"))
	if err != nil {
		patience = 10 * time.Second
	}
	listener, err := net.Listen("tcp", ":8080")
	fail(err)
	fmt.Println("Pinging Docker...")
	reply, err := engine.Get("http://docker/_ping")
	fail(err)
	fmt.Println("Docker daemon is available!", reply.Status)
	fmt.Println("Started!")

	var lock sync.Mutex
	seen := map[string]bool{}
	clients, gone := 0, make(chan struct{}, 1)
	go func() {
		for {
			connection, err := listener.Accept()
			fail(err)
			lock.Lock()
			clients++
			lock.Unlock()
			go func() {
				lines := bufio.NewScanner(connection)
				for lines.Scan() {
					lock.Lock()
					seen[strings.TrimSpace(lines.Text())] = true
					lock.Unlock()
					fmt.Fprintln(connection, "ACK")
				}
				lock.Lock()
				clients--
				if clients == 0 {
					select {
					case gone <- struct{}{}:
					default:
					}
				}
				lock.Unlock()
			}()
		}
	}()
	for {
		<-gone
		time.Sleep(patience)
		lock.Lock()
		if clients == 0 {
			for query := range seen {
				reap(query)
			}
			return
		}
		lock.Unlock()
	}
}
