package consumer

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"herald/consumer/batch/batchtest"
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
		batch, err := benchBatch(records, codec)
		if err != nil {
			return err
		}
		opts = append(opts, kfake.SyntheticFetch(kfake.SyntheticBatch{Batch: batch}))
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

// benchBatch returns a batch of records that [benchRecord] makes.
func benchBatch(count, codec int) ([]byte, error) {
	var records []kmsg.Record
	for i := range count {
		key, value := benchRecord(i)
		records = append(records, kmsg.Record{OffsetDelta: int32(i), Key: key, Value: value})
	}
	packed := batchtest.AppendRecords(records)
	if codec > 0 {
		compressor, err := kgo.DefaultCompressor(compressions[codec])
		if err != nil {
			return nil, err
		}
		packed, _ = compressor.Compress(new(bytes.Buffer), packed)
	}
	return batchtest.Make(kmsg.RecordBatch{Attributes: int16(codec), Records: packed}, records...), nil
}

// benchRecord returns the key and the value of a record of a benchmark. The key is a user's name, and half of the
// value does not compress.
func benchRecord(i int) (key, value []byte) {
	value = make([]byte, 100)
	half := value[50:]
	for i := range half {
		half[i] = byte(rand.IntN(256))
	}
	return fmt.Appendf(nil, "user-%d", i%1000), value
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
