// Package format turns the values of records into text that a page can read.
package format
