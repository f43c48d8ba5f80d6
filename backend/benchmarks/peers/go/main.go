// chi with pgx: its pool, its cache of prepared statements, and encoding/json.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-chi/chi"
	"github.com/jackc/pgtype"
	"github.com/jackc/pgx/v4"
	"github.com/jackc/pgx/v4/pgxpool"
)

const (
	columns = "id, user_id, title, description, completed, priority, due_date, tags, created_at, updated_at"
	mine    = " WHERE user_id = $1 AND id = $2"
	all     = "SELECT " + columns + " FROM tasks WHERE user_id = $1 ORDER BY created_at, id"
	get     = "SELECT " + columns + " FROM tasks" + mine
	create  = "INSERT INTO tasks (" + columns + ") VALUES (gen_random_uuid(), $1, $2, $3, $4, $5, $6, $7, now(), now())" +
		" RETURNING " + columns
	toggle = "UPDATE tasks SET completed = NOT completed, updated_at = now()" + mine + " RETURNING " + columns
	remove = "DELETE FROM tasks" + mine
)

type Task struct {
	ID          string     `json:"id"`
	UserID      string     `json:"user_id"`
	Title       string     `json:"title"`
	Description *string    `json:"description"`
	Completed   bool       `json:"completed"`
	Priority    string     `json:"priority"`
	DueDate     *time.Time `json:"due_date"`
	Tags        []string   `json:"tags"`
	CreatedAt   time.Time  `json:"created_at"`
	UpdatedAt   time.Time  `json:"updated_at"`
}

func (t *Task) scan(row pgx.Row) error {
	return row.Scan(&t.ID, &t.UserID, &t.Title, &t.Description, &t.Completed, &t.Priority, &t.DueDate, &t.Tags,
		&t.CreatedAt, &t.UpdatedAt)
}

// Sent tells a field that is null from one that was not sent.
type Sent[T any] struct {
	Given bool
	Value T
}

func (s *Sent[T]) UnmarshalJSON(data []byte) error {
	s.Given = true
	return json.Unmarshal(data, &s.Value)
}

type Fields struct {
	Title       Sent[string]     `json:"title"`
	Description Sent[*string]    `json:"description"`
	Completed   Sent[bool]       `json:"completed"`
	Priority    Sent[string]     `json:"priority"`
	DueDate     Sent[*time.Time] `json:"due_date"`
	Tags        Sent[[]string]   `json:"tags"`
}

func between(minimum, maximum int, text string) bool {
	length := utf8.RuneCountInString(text)
	return minimum <= length && length <= maximum
}

func (f *Fields) valid() bool {
	if f.Title.Given && !between(1, 500, f.Title.Value) {
		return false
	}
	if f.Description.Value != nil && !between(0, 5000, *f.Description.Value) {
		return false
	}
	switch f.Priority.Value {
	case "":
		f.Priority.Value = "medium"
	case "low", "medium", "high", "urgent":
	default:
		return false
	}
	if f.Tags.Value == nil {
		f.Tags.Value = []string{}
	}
	for _, tag := range f.Tags.Value {
		if !between(1, 50, tag) {
			return false
		}
	}
	return len(f.Tags.Value) <= 20
}

// update returns the statement that changes the fields that were sent, and its arguments.
func (f *Fields) update(user string, id pgtype.UUID) (string, []any) {
	var sets strings.Builder
	arguments := []any{user, id}
	set := func(given bool, column string, value any) {
		if given {
			arguments = append(arguments, value)
			sets.WriteString(column + " = $" + strconv.Itoa(len(arguments)) + ", ")
		}
	}
	set(f.Title.Given, "title", f.Title.Value)
	set(f.Description.Given, "description", f.Description.Value)
	set(f.Completed.Given, "completed", f.Completed.Value)
	set(f.Priority.Given, "priority", f.Priority.Value)
	set(f.DueDate.Given, "due_date", f.DueDate.Value)
	set(f.Tags.Given, "tags", f.Tags.Value)
	return "UPDATE tasks SET " + sets.String() + "updated_at = now()" + mine + " RETURNING " + columns, arguments
}

type server struct{ pool *pgxpool.Pool }

func (s server) list(w http.ResponseWriter, r *http.Request) {
	rows, err := s.pool.Query(r.Context(), all, user(r))
	if err != nil {
		fail(w, err)
		return
	}
	defer rows.Close()
	tasks := []Task{}
	for rows.Next() {
		var task Task
		if err := task.scan(rows); err != nil {
			fail(w, err)
			return
		}
		tasks = append(tasks, task)
	}
	if err := rows.Err(); err != nil {
		fail(w, err)
		return
	}
	answer(w, http.StatusOK, tasks)
}

func (s server) create(w http.ResponseWriter, r *http.Request) {
	if sent, ok := fields(w, r); ok {
		s.one(w, r, http.StatusCreated, create, user(r), sent.Title.Value, sent.Description.Value,
			sent.Completed.Value, sent.Priority.Value, sent.DueDate.Value, sent.Tags.Value)
	}
}

func (s server) get(w http.ResponseWriter, r *http.Request) {
	if id, ok := taskID(w, r); ok {
		s.one(w, r, http.StatusOK, get, user(r), id)
	}
}

func (s server) update(w http.ResponseWriter, r *http.Request) {
	id, ok := taskID(w, r)
	if !ok {
		return
	}
	if sent, ok := fields(w, r); ok {
		statement, arguments := sent.update(user(r), id)
		s.one(w, r, http.StatusOK, statement, arguments...)
	}
}

func (s server) toggle(w http.ResponseWriter, r *http.Request) {
	if id, ok := taskID(w, r); ok {
		s.one(w, r, http.StatusOK, toggle, user(r), id)
	}
}

func (s server) remove(w http.ResponseWriter, r *http.Request) {
	id, ok := taskID(w, r)
	if !ok {
		return
	}
	done, err := s.pool.Exec(r.Context(), remove, user(r), id)
	if err == nil && done.RowsAffected() == 0 {
		err = pgx.ErrNoRows
	}
	if err != nil {
		fail(w, err)
		return
	}
	answer(w, http.StatusOK, map[string]string{"message": "Task deleted successfully"})
}

func (s server) one(w http.ResponseWriter, r *http.Request, status int, statement string, arguments ...any) {
	var task Task
	if err := task.scan(s.pool.QueryRow(r.Context(), statement, arguments...)); err != nil {
		fail(w, err)
		return
	}
	answer(w, status, task)
}

func user(r *http.Request) string { return chi.URLParam(r, "user") }

func taskID(w http.ResponseWriter, r *http.Request) (id pgtype.UUID, ok bool) {
	if err := id.Set(chi.URLParam(r, "task")); err != nil {
		detail(w, http.StatusUnprocessableEntity, "Invalid id")
		return id, false
	}
	return id, true
}

func fields(w http.ResponseWriter, r *http.Request) (sent Fields, ok bool) {
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 128<<10)).Decode(&sent)
	if err != nil || !sent.valid() || r.Method == http.MethodPost && !sent.Title.Given {
		detail(w, http.StatusUnprocessableEntity, "Invalid task")
		return sent, false
	}
	return sent, true
}

func fail(w http.ResponseWriter, err error) {
	if errors.Is(err, pgx.ErrNoRows) {
		detail(w, http.StatusNotFound, "Task not found")
		return
	}
	detail(w, http.StatusInternalServerError, "Internal server error")
}

func detail(w http.ResponseWriter, status int, text string) {
	answer(w, status, map[string]string{"detail": text})
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body)
}

func main() {
	config, err := pgxpool.ParseConfig(os.Getenv("DATABASE_URL"))
	if err != nil {
		log.Fatal(err)
	}
	size, err := strconv.Atoi(os.Getenv("POOL_SIZE"))
	if err != nil {
		log.Fatal(err)
	}
	config.MaxConns = int32(size)
	pool, err := pgxpool.ConnectConfig(context.Background(), config)
	if err != nil {
		log.Fatal(err)
	}
	s := server{pool}
	router := chi.NewRouter()
	router.Route("/api/{user}/tasks", func(r chi.Router) {
		r.Get("/", s.list)
		r.Post("/", s.create)
		r.Get("/{task}", s.get)
		r.Put("/{task}", s.update)
		r.Delete("/{task}", s.remove)
		r.Patch("/{task}/complete", s.toggle)
	})
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), router))
}
