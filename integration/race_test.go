//go:build race

package integration

// raceDetector says that the tests run under the race detector: then herald does, too.
const raceDetector = true
