package clients

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
)

// goDriver is one connection of go-sql-driver and what it has found.
type goDriver struct {
	ctx      context.Context
	db       *sql.Conn
	schema   string
	findings []Finding
	err      error // the first thing that the client could not do at all
}

func runGoDriver(ctx context.Context, to Endpoint) ([]Finding, error) {
	cfg := mysql.NewConfig()
	cfg.Net, cfg.Addr, cfg.User, cfg.Passwd, cfg.DBName = "tcp", net.JoinHostPort(to.Host, to.Port), to.User, to.Password, to.Schema
	cfg.ParseTime, cfg.MultiStatements, cfg.MaxAllowedPacket, cfg.ReadTimeout = true, true, 64<<20, time.Minute
	cfg.Params = map[string]string{"time_zone": "'+00:00'"}
	if to.TLS {
		cfg.TLSConfig = "skip-verify"
	}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, fmt.Errorf("configure go-sql-driver: %w", err)
	}
	pool := sql.OpenDB(connector)
	defer pool.Close()
	conn, err := pool.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect go-sql-driver: %w", err)
	}
	defer conn.Close()
	d := &goDriver{ctx: ctx, db: conn, schema: to.Schema}
	for _, part := range []func(){
		d.writeAndRead, d.transactions, d.prepared, d.large, d.rows, d.infile, d.severalAnswers, d.refusals, d.state,
	} {
		if part(); d.err != nil {
			break
		}
	}
	return d.findings, d.err
}

func (d *goDriver) report(check string, what ...any) {
	d.findings = append(d.findings, saw(check, what))
}

// refused turns an error into what of it is reported; anything but a server's
// error ends the run.
func (d *goDriver) refused(err error) any {
	var e *mysql.MySQLError
	if errors.As(err, &e) {
		return refusal{e.Number, string(e.SQLState[:]), e.Message}
	}
	if d.err == nil {
		d.err = err
	}
	return err.Error()
}

// exec runs a statement without rows: affected rows and last id, or the error.
// With arguments it goes as a prepared statement.
func (d *goDriver) exec(sql string, args ...any) any {
	r, err := d.db.ExecContext(d.ctx, sql, args...)
	if err != nil {
		return d.refused(err)
	}
	affected, _ := r.RowsAffected()
	id, _ := r.LastInsertId()
	return []int64{affected, id}
}

// ask runs a statement and returns all its answers with columns and types.
func (d *goDriver) ask(sql string, args ...any) any {
	rows, err := d.db.QueryContext(d.ctx, sql, args...)
	if err != nil {
		return d.refused(err)
	}
	return d.answers(rows)
}

func (d *goDriver) answers(rows *sql.Rows) any {
	defer rows.Close()
	var all []any
	for {
		types, err := rows.ColumnTypes()
		if err != nil {
			return d.refused(err)
		}
		var names []string
		for _, t := range types {
			names = append(names, t.Name()+" "+t.DatabaseTypeName())
		}
		answer := []any{names}
		for rows.Next() {
			values := make([]any, len(types))
			for i := range values {
				values[i] = new(any)
			}
			if err := rows.Scan(values...); err != nil {
				return d.refused(err)
			}
			answer = append(answer, printable(values))
		}
		all = append(all, answer)
		if !rows.NextResultSet() {
			break
		}
	}
	if err := rows.Err(); err != nil {
		all = append(all, d.refused(err))
	}
	return all
}

// printable makes values comparable as text, types kept apart.
func printable(values []any) []string {
	var out []string
	for _, p := range values {
		switch v := (*p.(*any)).(type) {
		case nil:
			out = append(out, "NULL")
		case []byte:
			out = append(out, fmt.Sprintf("%q", v))
		case time.Time:
			out = append(out, v.Format(time.RFC3339Nano))
		default:
			out = append(out, fmt.Sprintf("%T %v", v, v))
		}
	}
	return out
}

func (d *goDriver) writeAndRead() {
	d.exec("DROP TABLE IF EXISTS go")
	d.report("create", d.exec(`CREATE TABLE go (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(40) UNIQUE, n INT,
		big BIGINT, ubig BIGINT UNSIGNED, d DECIMAL(10,3), f DOUBLE, day DATE, at DATETIME(6), took TIME(3), raw BLOB)
		CHARACTER SET utf8mb4`))
	d.report("insert", d.exec("INSERT INTO go (name, n) VALUES ('a', 1), ('b', 2), ('c', NULL)"))
	d.report("update-same", d.exec("UPDATE go SET n = 1 WHERE name = 'a'"))
	d.report("update", d.exec("UPDATE go SET n = n + 1 WHERE id <= 2"))
	d.report("delete", d.exec("DELETE FROM go WHERE name = 'c'"))
	d.report("read", d.ask("SELECT id, name, n FROM go ORDER BY id"))
	d.report("read-none", d.ask("SELECT id FROM go WHERE id < 0"))
	d.exec("INSERT INTO go (name) VALUES (?)", "✓ żółć 日本語 🚂")
	d.report("unicode", d.ask("SELECT name, CHAR_LENGTH(name) FROM go WHERE name LIKE '%🚂'"))
}

func (d *goDriver) transactions() {
	d.transaction("commit", nil, (*sql.Tx).Commit)
	d.transaction("rollback", nil, (*sql.Tx).Rollback)
	d.transaction("read-only", &sql.TxOptions{ReadOnly: true, Isolation: sql.LevelRepeatableRead}, (*sql.Tx).Rollback)
	d.transaction("serializable", &sql.TxOptions{Isolation: sql.LevelSerializable}, (*sql.Tx).Commit)
}

func (d *goDriver) transaction(name string, options *sql.TxOptions, finish func(*sql.Tx) error) {
	tx, err := d.db.BeginTx(d.ctx, options)
	if err != nil {
		d.report(name, d.refused(err))
		return
	}
	var wrote any = "ok"
	if _, err := tx.ExecContext(d.ctx, "INSERT INTO go (name, n) VALUES (?, ?)", name, 9); err != nil {
		wrote = d.refused(err)
	}
	var inside int
	if err := tx.QueryRowContext(d.ctx, "SELECT COUNT(*) FROM go").Scan(&inside); err != nil {
		d.refused(err)
	}
	if err := finish(tx); err != nil {
		d.refused(err)
	}
	d.report(name, wrote, inside, d.ask("SELECT COUNT(*), @@in_transaction FROM go"))
}

func (d *goDriver) prepared() {
	insert, err := d.db.PrepareContext(d.ctx, "INSERT INTO go (name, n, big, ubig, d, f, day, at, took, raw) VALUES (?,?,?,?,?,?,?,?,?,?)")
	if err != nil {
		d.report("prepare", d.refused(err))
		return
	}
	defer insert.Close()
	at := time.Date(2026, 12, 31, 23, 59, 59, 123456000, time.UTC)
	for _, row := range [][]any{
		{"one", int8(-1), int64(-1 << 63), ^uint64(0), "-12345.678", 0.1, at, at, "-838:59:58.999", []byte{0, 255, 39, 92}},
		{"two", nil, nil, nil, nil, nil, nil, nil, nil, nil},
		{"three", "3", 3, uint8(3), 3.5, float32(3), "2026-02-28", "2026-02-28 01:02:03", "00:00:00", ""},
		{"four", true, false, true, int64(4), "4e3", nil, at.Add(time.Hour), nil, []byte(nil)},
	} {
		r, err := insert.ExecContext(d.ctx, row...)
		if err != nil {
			d.report(fmt.Sprint("prepared insert ", row[0]), d.refused(err))
			continue
		}
		n, _ := r.RowsAffected()
		d.report(fmt.Sprint("prepared insert ", row[0]), n)
	}
	d.preparedReads()
}

func (d *goDriver) preparedReads() {
	read, err := d.db.PrepareContext(d.ctx, "SELECT n, big, ubig, d, f, day, at, took, raw FROM go WHERE name = ?")
	if err != nil {
		d.report("prepare", d.refused(err))
		return
	}
	defer read.Close()
	for _, name := range []string{"one", "two", "three", "four", "none"} {
		rows, err := read.QueryContext(d.ctx, name)
		if err != nil {
			d.report("prepared select "+name, d.refused(err))
			continue
		}
		d.report("prepared select "+name, d.answers(rows))
	}
	for _, v := range []any{1, 1.5, "text", nil, true, []byte("raw"), time.Date(2026, 2, 28, 0, 0, 0, 0, time.UTC)} {
		d.report(fmt.Sprintf("prepared echo %T", v), d.ask("SELECT ?", v))
	}
	_, err = d.db.PrepareContext(d.ctx, "SELECT * FROM missing WHERE id = ?")
	d.report("prepared error 1146", d.refused(err))
	d.report("prepared error 1062", d.exec("INSERT INTO go (name) VALUES (?)", "a"))
	d.report("prepared error 1064", d.exec("SELEC ?", 1))
}

func (d *goDriver) large() {
	block := make([]byte, 1<<20)
	_, _ = rand.Read(block)
	value := bytes.Repeat(block, LargeSize/len(block))
	d.exec("DROP TABLE IF EXISTS go_large")
	d.exec("CREATE TABLE go_large (id INT PRIMARY KEY, v LONGBLOB)")
	wrote := d.exec("INSERT INTO go_large VALUES (?, ?)", 1, value)
	var text, binary []byte
	var n int
	if err := d.db.QueryRowContext(d.ctx, "SELECT v, LENGTH(v) FROM go_large").Scan(&text, &n); err != nil {
		d.refused(err)
	}
	if err := d.db.QueryRowContext(d.ctx, "SELECT v FROM go_large WHERE id = ?", 1).Scan(&binary); err != nil {
		d.refused(err)
	}
	d.report("large", wrote, n, bytes.Equal(text, value), bytes.Equal(binary, value))
}

// tenThousand is a statement of 10,000 rows, about a megabyte.
func tenThousand() string {
	var digits []string
	for i := range 10 {
		digits = append(digits, fmt.Sprintf("SELECT %d AS d", i))
	}
	ten := "(" + strings.Join(digits, " UNION ALL ") + ")"
	return fmt.Sprintf(`SELECT a.d + b.d * 10 + c.d * 100 + e.d * 1000 AS n, REPEAT('r', 100) AS r
		FROM %[1]s a, %[1]s b, %[1]s c, %[1]s e ORDER BY n`, ten)
}

func (d *goDriver) rows() {
	d.report("rows text", hash(fmt.Append(nil, d.ask(tenThousand()))))
	d.report("rows binary", hash(fmt.Append(nil, d.ask(tenThousand()+" LIMIT ?", 10000))))
	// Rows that nobody reads must not be taken for the next answer.
	ctx, cancel := context.WithCancel(d.ctx)
	defer cancel()
	rows, err := d.db.QueryContext(ctx, tenThousand())
	if err != nil {
		d.report("rows abandoned", d.refused(err))
		return
	}
	first := rows.Next()
	_ = rows.Close()
	d.report("rows abandoned", first, d.ask("SELECT 'alive'"))
}

func (d *goDriver) infile() {
	mysql.RegisterReaderHandler("rows", func() io.Reader { return strings.NewReader(infileText) })
	defer mysql.DeregisterReaderHandler("rows")
	d.exec("DROP TABLE IF EXISTS go_file")
	d.exec("CREATE TABLE go_file (id INT PRIMARY KEY, name VARCHAR(20))")
	loaded := d.exec("LOAD DATA LOCAL INFILE 'Reader::rows' INTO TABLE go_file")
	d.report("local-infile", loaded, d.ask("SELECT COUNT(*), SUM(id), MAX(name) FROM go_file"))
	d.report("local-infile-missing-table", d.exec("LOAD DATA LOCAL INFILE 'Reader::rows' INTO TABLE missing"), d.ask("SELECT 'alive'"))
}

func (d *goDriver) severalAnswers() {
	d.report("multi-statement", d.ask("SELECT 1; UPDATE go SET n = 5 WHERE name = 'a'; SELECT n FROM go WHERE name = 'a'"))
	d.report("multi-statement-exec", d.exec("UPDATE go SET n = 6 WHERE name = 'a'; DELETE FROM go WHERE name = 'four'"))
	d.report("multi-statement-error", d.ask("SELECT 1; SELECT missing FROM go; SELECT 2"))
	d.exec("DROP PROCEDURE IF EXISTS go_sets")
	d.exec("CREATE PROCEDURE go_sets(IN a INT, OUT b INT) BEGIN SELECT a, a + 1; SELECT name FROM go ORDER BY id LIMIT 2; SET b = a * 2; END")
	d.report("procedure", d.ask("CALL go_sets(20, @b)"), d.ask("SELECT @b"))
	d.report("procedure-prepared", d.ask("CALL go_sets(?, @b)", 21), d.ask("SELECT @b"))
}

func (d *goDriver) refusals() {
	for _, c := range []struct{ code, sql string }{
		{"1146", "SELECT * FROM missing"}, {"1062", "INSERT INTO go (name) VALUES ('a')"}, {"1064", "SELEC 1"},
		{"1054", "SELECT nothing FROM go"}, {"1305", "CALL missing()"}, {"1049", "USE no_such_schema"}, {"1065", ""},
		{"45000", "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'made up', MYSQL_ERRNO = 31001"},
	} {
		d.report("error "+c.code, d.exec(c.sql))
	}
	d.report("alive", d.ask("SELECT 'alive'"))
}

func (d *goDriver) state() {
	d.report("session", d.ask("SELECT @@autocommit, @@character_set_client, @@collation_connection, @@time_zone, DATABASE()"))
	d.exec("SET SESSION sql_mode = 'ANSI_QUOTES', @v = 5")
	d.report("variables", d.ask(`SELECT @v AS "v", @@sql_mode, @v := @v + 1`), d.ask("SELECT @v FROM go WHERE id > ? LIMIT 1", 0))
	d.exec("CREATE TEMPORARY TABLE t (v INT)")
	d.exec("INSERT INTO t VALUES (?), (?)", 3, 4)
	d.report("temporary-table", d.ask("SELECT SUM(v) FROM t"), d.ask("SELECT SUM(v) FROM t WHERE v > ?", 0))
	d.report("found-rows", d.ask("SELECT SQL_CALC_FOUND_ROWS name FROM go ORDER BY id LIMIT 1"), d.ask("SELECT FOUND_ROWS()"))
	d.report("locks", d.ask("SELECT GET_LOCK('go', 5), IS_USED_LOCK('go') = CONNECTION_ID()"), d.ask("SELECT RELEASE_LOCK('go')"))
	d.exec("INSERT INTO go (name) VALUES ('last')")
	d.report("last-insert-id", d.ask("SELECT LAST_INSERT_ID() = MAX(id) FROM go"))
	d.report("warnings", d.exec("INSERT IGNORE INTO go (name, n) VALUES ('w', 'many')"), d.ask("SHOW WARNINGS"))
	d.exec("USE information_schema")
	d.report("schema", d.ask("SELECT DATABASE()"), d.ask("SELECT schema_name FROM schemata WHERE schema_name = ?", d.schema))
}
