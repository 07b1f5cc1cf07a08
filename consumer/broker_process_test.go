package consumer

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
)

// brokerVariable is the environment variable that makes TestMain run a broker instead of the tests. Its
// value is the number of records in a batch and the codec.
const brokerVariable = "HERALD_TEST_BROKER_PROCESS"

// runBrokerProcess runs a broker until its standard input ends. The broker has a process of its own so
// that the benchmarks do not count the broker's work as the work of the reader.
func runBrokerProcess(spec string) error {
	var records, codec int
	if _, err := fmt.Sscan(spec, &records, &codec); err != nil {
		return fmt.Errorf("%s=%q: %w", brokerVariable, spec, err)
	}
	opts := []kfake.Opt{kfake.NumBrokers(1), kfake.AllowAutoTopicCreation(), kfake.DefaultNumPartitions(1)}
	if records > 0 {
		opts = append(opts, kfake.SyntheticFetch(kfake.SyntheticBatch{Records: records, RecordBytes: 100, RandomFrac: 0.5, Compression: compressions[codec]}))
	}
	broker, err := kfake.NewCluster(opts...)
	if err != nil {
		return err
	}
	defer broker.Close()
	_, _ = fmt.Fprintln(os.Stdout, "broker", broker.ListenAddrs()[0])
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); !errors.Is(err, io.EOF) { // the parent closes it
		return err
	}
	return nil
}

// brokerProcess starts a broker in a process of its own. Each topic of the broker holds batches without
// end, of this number of records and with this codec. If records is 0, a topic holds the records that a
// producer writes to it.
func brokerProcess(tb testing.TB, records, codec int) (address string, pid int) {
	tb.Helper()
	command := exec.CommandContext(tb.Context(), os.Args[0])
	command.Env = append(os.Environ(), fmt.Sprintf("%s=%d %d", brokerVariable, records, codec))
	in, err := command.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := command.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := command.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = in.Close()
		_ = command.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	address, ok := strings.CutPrefix(strings.TrimSpace(line), "broker ")
	if err != nil || !ok {
		tb.Fatalf("the broker process printed %q, want its address: %v", line, err)
	}
	return address, command.Process.Pid
}
