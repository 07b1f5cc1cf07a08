//go:build !unix

package listener

import "math"

// OpenFiles returns [math.MaxInt32]: only Unix systems have a limit of open files.
func OpenFiles() int { return math.MaxInt32 }
