package main

import _ "github.com/coder/websocket"
