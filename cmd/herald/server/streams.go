package server

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"

	"herald/stream"
)

// streamsPath lists the open streams and ends them, on the admin listener.
const streamsPath = "/debug/streams"

// defaultListed is the most streams that an answer lists without the parameter limit.
const defaultListed = 100

// The parameters that choose streams.
const (
	paramID      = "id"
	paramState   = "state"
	paramAddress = "address"
	paramLimit   = "limit"
)

// listStreams answers GET /debug/streams. See [stream.Listing].
func (s *Server) listStreams(w http.ResponseWriter, r *http.Request) {
	filter, err := readFilter(r, paramUser, paramState, paramAddress, paramID, paramLimit)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	writeJSON(w, s.streams.List(filter, s.consumer))
}

// Ended is the answer to DELETE /debug/streams.
type Ended struct {
	Ended int `json:"ended"`
}

// endStreams answers DELETE /debug/streams. It refuses pages: the listener authenticates nobody, and a page whose name leads
// to the listener (DNS rebinding) needs no preflight. Browsers send Origin with each DELETE (Fetch, "append a request
// `Origin` header").
func (s *Server) endStreams(w http.ResponseWriter, r *http.Request) {
	filter, err := readFilter(r, paramUser, paramID)
	switch {
	case r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != "":
		http.Error(w, "pages cannot end streams: use herald streams --end, or curl", http.StatusForbidden)
	case err == nil && (filter.User == "") == (filter.ID == 0):
		err = errors.New("give either user or id: the user whose streams to end, or the stream to end")
		fallthrough
	case err != nil:
		http.Error(w, err.Error(), http.StatusBadRequest)
	default:
		ended := s.streams.EndChosen(filter)
		s.cfg.Logger.Info("streams ended by an operator", "user", filter.User, "id", filter.ID, "streams", ended)
		writeJSON(w, Ended{ended})
	}
}

// readFilter reads the query. Unknown parameters are refused: without them, more streams would be listed or ended.
func readFilter(r *http.Request, names ...string) (f stream.Filter, err error) {
	query, err := stream.ParseQuery(r.URL.RawQuery)
	if err == nil {
		err = queryRules{}.check(query, names)
	}
	if err != nil {
		return f, err
	}
	f.User, f.State = query.Get(paramUser), stream.State(query.Get(paramState))
	if f.State != "" && !slices.Contains(stream.States, f.State) {
		return f, fmt.Errorf("the query parameter state is %s: want one of %q", stream.ShowParam(string(f.State)), stream.States)
	}
	if text := query.Get(paramID); text != "" {
		if f.ID, err = strconv.ParseInt(text, 10, 64); err != nil || f.ID <= 0 {
			return f, fmt.Errorf("the query parameter id is %s: want the id of a stream, a number", stream.ShowParam(text))
		}
	}
	if f.Limit, err = strconv.Atoi(cmp.Or(query.Get(paramLimit), strconv.Itoa(defaultListed))); err != nil || f.Limit < 0 {
		return f, fmt.Errorf("the query parameter limit is %s: want the most streams to list, or 0 for all", stream.ShowParam(query.Get(paramLimit)))
	}
	if text := query.Get(paramAddress); text != "" {
		if f.Network, err = readNetwork(text); err != nil {
			return f, fmt.Errorf("the query parameter address is %s: want an address or a network, such as 203.0.113.7 or 10.0.0.0/8", stream.ShowParam(text))
		}
	}
	return f, nil
}

// readNetwork reads an address or a network. All addresses of an IPv6 /64 count as one client.
func readNetwork(text string) (netip.Prefix, error) {
	address, err := netip.ParseAddr(text)
	if err != nil {
		network, err := netip.ParsePrefix(text)
		return network.Masked(), err
	}
	address = address.Unmap().WithZone("")
	return address.Prefix(min(address.BitLen(), 64))
}

func writeJSON(w http.ResponseWriter, answer any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(answer) // an error is a client that has gone
}
