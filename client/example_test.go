package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"time"

	"github.com/sealsign/sealsign/client"
)

// An existing program changes the one line that makes its http.Client.
func ExampleTransport() {
	exchange := &http.Client{Transport: client.Transport("binance-main")}
	response, err := exchange.Get("https://api.binance.com/api/v3/account")
	if err != nil {
		log.Fatal(err) // no agent, or no answer
	}
	defer response.Body.Close()
	if refusal := client.Refusal(response); refusal != nil {
		log.Fatal(refusal) // the agent's own answer: nothing was sent
	}
	fmt.Println(response.Status) // the venue's answer
}

// A program that sends its requests itself has them signed.
func ExampleClient_Sign() {
	agent, err := client.Dial("")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = agent.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	signed, err := agent.Sign(ctx, &client.Request{Key: "okx-main", Method: "GET", URL: "https://www.okx.com/api/v5/account/balance"})
	if err != nil {
		log.Fatal(err)
	}
	request, err := signed.Request(ctx)
	if err != nil {
		log.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	fmt.Println(response.Status)
}

// A refusal names its reason, and what to do.
func ExampleError() {
	agent, err := client.Dial("")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = agent.Close() }()
	_, err = agent.Sign(context.Background(), &client.Request{Method: "GET", URL: "https://www.okx.com/api/v5/account/balance"})
	var refusal *client.Error
	switch {
	case errors.Is(err, client.KeySuspended):
		fmt.Println("an operator has suspended the key")
	case errors.Is(err, client.RateLimited) && errors.As(err, &refusal):
		fmt.Println("again in", refusal.RetryAfter)
	case errors.As(err, &refusal):
		fmt.Println(refusal.Reason, refusal.Message, refusal.Hint)
	}
}
