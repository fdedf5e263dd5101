package venue

// tokenMetrics is the Token Metrics data API (https://developers.tokenmetrics.com).
// Its key is a header that never changes, so it can be forwarded and never released.
func tokenMetrics() *Venue {
	return &Venue{
		name:         "tokenmetrics",
		environments: []environment{{name: "production", hosts: []host{{name: "api.tokenmetrics.com"}}}},
		signs:        []signing{{algorithm: None}},
		secret:       "raw",
		header:       []headerField{{"x-api-key", must("{api_key}")}},
		bodies:       []bodyKind{jsonBody},
		rows:         reads("GET ", "/v1/* /v2/* /v3/*"),
	}
}
