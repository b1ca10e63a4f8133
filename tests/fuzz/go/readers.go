// Reads JSON bodies and multipart forms as Ollama does, with Go's own packages, and prints what it found in them.
//
// Standard input has one base64 text a line, standard output one JSON object for each. See tests/fuzz/ask_go.py.
package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
)

// Request has members as Ollama's requests have them.
type Request struct {
	Model     string         `json:"model"`
	Name      string         `json:"name"`
	From      string         `json:"from"`
	Stream    *bool          `json:"stream"`
	KeepAlive any            `json:"keep_alive"`
	Options   map[string]any `json:"options"`
	Messages  any            `json:"messages"`
	Prompt    any            `json:"prompt"`
	Think     any            `json:"think"`
	NumCtx    any            `json:"num_ctx"`
}

func readJSON(body []byte) any {
	var request Request
	err := json.NewDecoder(bytes.NewReader(body)).Decode(&request)
	var wrongType *json.UnmarshalTypeError
	if errors.As(err, &wrongType) {
		return map[string]any{"error": "type"}
	}
	if err != nil {
		return map[string]any{"error": "syntax"}
	}
	text, _ := json.Marshal(request)
	var members map[string]any
	_ = json.Unmarshal(text, &members)
	return map[string]any{"members": shortened(members)}
}

// shortened puts a text's beginning and its length in place of one that is long.
func shortened(value any) any {
	switch one := value.(type) {
	case string:
		if len(one) > 1000 {
			return fmt.Sprintf("%s and %d", one[:64], len(one))
		}
	case []any:
		for i := range one {
			one[i] = shortened(one[i])
		}
	case map[string]any:
		found := map[string]any{}
		for key, inner := range one {
			found[shortened(key).(string)] = shortened(inner)
		}
		return found
	}
	return value
}

func readForm(data []byte) any {
	contentType, body, _ := bytes.Cut(data, []byte("\n"))
	request, _ := http.NewRequest("POST", "http://localhost/", bytes.NewReader(body))
	request.Header["Content-Type"] = []string{string(contentType)}
	if err := request.ParseMultipartForm(32 << 20); err != nil {
		return map[string]any{"error": "form"}
	}
	found := map[string][]string{}
	for name, values := range request.MultipartForm.Value {
		for _, value := range values {
			found[encoded(name)] = append(found[encoded(name)], encoded(value))
		}
	}
	return map[string]any{"values": found}
}

func encoded(text string) string {
	return base64.StdEncoding.EncodeToString([]byte(text))
}

func main() {
	read := map[string]func([]byte) any{"json_gate": readJSON, "multipart_form": readForm}[os.Args[1]]
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 16<<20)
	out := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		data, err := base64.StdEncoding.DecodeString(lines.Text())
		if err != nil {
			panic(err)
		}
		_ = out.Encode(read(data))
	}
}
