package clients

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// script is one run of the mariadb command line: one session. One without the
// name of a check is not reported.
type script struct {
	check, sql string
}

// commandLineScripts end in the client's default delimiter; the client itself
// splits them. -vv makes it print what it knows of each answer: rows affected,
// warnings, the server's information line.
var commandLineScripts = []script{
	{"", `DROP TABLE IF EXISTS cli, cli_file; DROP PROCEDURE IF EXISTS cli_sets;`},
	{"session", `SELECT @@autocommit, @@character_set_client, @@collation_connection, DATABASE();
USE information_schema; SELECT DATABASE();`},
	{"write-read", `CREATE TABLE cli (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(40) UNIQUE, n INT) CHARACTER SET utf8mb4;
INSERT INTO cli (name, n) VALUES ('a', 1), ('b', 2), ('c', NULL);
SELECT LAST_INSERT_ID(), ROW_COUNT();
SELECT * FROM cli ORDER BY id;
UPDATE cli SET n = 2 WHERE id <= 2;
DELETE FROM cli WHERE name = 'c';
SELECT * FROM cli WHERE id = 99;
SELECT COUNT(*) FROM cli;`},
	{"transaction", `UPDATE cli SET n = 0;
BEGIN; INSERT INTO cli (name) VALUES ('kept'); SELECT COUNT(*) FROM cli; COMMIT;
BEGIN; INSERT INTO cli (name) VALUES ('dropped'); SELECT COUNT(*) FROM cli; ROLLBACK;
SET autocommit = 0; DELETE FROM cli; SELECT COUNT(*) FROM cli; ROLLBACK; SET autocommit = 1;
START TRANSACTION READ ONLY; DELETE FROM cli; SELECT COUNT(*) FROM cli; COMMIT;
SELECT name FROM cli ORDER BY id;`},
	{"prepared", `PREPARE s FROM 'SELECT ? + 1, CONCAT(?, ''!''), ?';
SET @i = 41, @s = 'text', @n = NULL; EXECUTE s USING @i, @s, @n;
SET @i = 1.5, @s = 'čeština', @n = DATE'2026-02-28'; EXECUTE s USING @i, @s, @n;
PREPARE w FROM 'INSERT INTO cli (name, n) VALUES (?, ?)';
SET @s = 'prepared', @i = 7; EXECUTE w USING @s, @i; SELECT n FROM cli WHERE name = 'prepared';
DEALLOCATE PREPARE s; EXECUTE s USING @i, @s, @n;`},
	{"unicode", `INSERT INTO cli (name) VALUES ('✓ żółć 日本語 🚂');
SELECT name, CHAR_LENGTH(name), HEX(name) FROM cli WHERE name LIKE '%🚂';`},
	{"multi-statement", `UPDATE cli SET n = 1;
DELIMITER //
SELECT 1; UPDATE cli SET n = 5 WHERE name = 'a'; SELECT n FROM cli WHERE name = 'a'//
SELECT 1; SELECT missing FROM cli; SELECT 2//
SELECT 'alive'//`},
	{"procedure", `DELIMITER //
CREATE PROCEDURE cli_sets(IN a INT, OUT b INT) BEGIN SELECT a, a + 1; SELECT name FROM cli ORDER BY id LIMIT 2; SET b = a * 2; END//
DELIMITER ;
CALL cli_sets(20, @b); SELECT @b;`},
	{"warnings", `INSERT IGNORE INTO cli (name, n) VALUES ('w', 'many');
SHOW WARNINGS; SELECT 'x' + 1; SHOW COUNT(*) WARNINGS;`},
	{"state", `SET SESSION sql_mode = 'ANSI_QUOTES'; CREATE TEMPORARY TABLE t (v INT); INSERT INTO t VALUES (3), (4);
SELECT SUM(v) AS "sum" FROM t; SELECT SQL_CALC_FOUND_ROWS name FROM cli ORDER BY id LIMIT 1; SELECT FOUND_ROWS() > 1;
SELECT GET_LOCK('cli', 5); SELECT IS_USED_LOCK('cli') = CONNECTION_ID(); SELECT RELEASE_LOCK('cli');
SET @v := 5; SELECT @v, @v := @v + 1; SELECT @v; SELECT name FROM cli WHERE name = 'a' FOR UPDATE;`},
	{"errors", `UPDATE cli SET n = 2;
SELECT * FROM missing;
INSERT INTO cli (name) VALUES ('a');
SELEC 1;
SELECT nothing FROM cli;
INSERT INTO cli (id) VALUES ('x', 1);
CALL missing();
SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'made up', MYSQL_ERRNO = 31001;
USE no_such_schema;
SELECT 'alive';`},
}

func runCommandLine(ctx context.Context, to Endpoint) ([]Finding, error) {
	var findings []Finding
	for _, s := range commandLineScripts {
		out, complaints, err := commandLine(ctx, to, s.sql, "-vv", "--force")
		if err != nil {
			return findings, fmt.Errorf("%s: %w", s.check, err)
		}
		if s.check == "" {
			continue // clears what an earlier run left
		}
		findings = append(findings, saw(s.check, map[string][]string{"out": lines(out), "err": lines(complaints)}))
	}
	for _, f := range []func(context.Context, Endpoint) (Finding, error){commandLineInfile, commandLineLarge} {
		found, err := f(ctx, to)
		if err != nil {
			return findings, err
		}
		findings = append(findings, found)
	}
	return findings, nil
}

// commandLine runs the client with sql on its standard input. That a statement
// failed is not an error: with --force the client says so and goes on.
func commandLine(ctx context.Context, to Endpoint, sql string, flags ...string) (out, complaints []byte, err error) {
	args := []string{"--no-defaults", "--protocol=tcp", "--host=" + to.Host, "--port=" + to.Port, "--user=" + to.User,
		"--default-character-set=utf8mb4", "--max-allowed-packet=64M", "--local-infile=1", "--batch"}
	if to.TLS {
		args = append(args, "--ssl")
	} else {
		args = append(args, "--skip-ssl")
	}
	cmd := exec.CommandContext(ctx, "mariadb", append(append(args, flags...), to.Schema)...)
	cmd.Env = append(os.Environ(), "MYSQL_PWD="+to.Password)
	var o, e bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(sql), &o, &e
	err = cmd.Run()
	if err != nil && cmd.ProcessState != nil && cmd.ProcessState.ExitCode() == 1 && ctx.Err() == nil {
		err = nil
	}
	return o.Bytes(), e.Bytes(), err
}

func lines(text []byte) []string { return strings.Split(strings.TrimRight(string(text), "\n"), "\n") }

func commandLineInfile(ctx context.Context, to Endpoint) (Finding, error) {
	dir, err := os.MkdirTemp("", "signalbox-client-")
	if err != nil {
		return Finding{}, fmt.Errorf("make a file to upload: %w", err)
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, "rows.tsv"), []byte(infileText), 0o644); err != nil {
		return Finding{}, fmt.Errorf("make a file to upload: %w", err)
	}
	sql := fmt.Sprintf(`CREATE TABLE cli_file (id INT PRIMARY KEY, name VARCHAR(20));
LOAD DATA LOCAL INFILE '%s/rows.tsv' INTO TABLE cli_file; SELECT COUNT(*), SUM(id), MAX(name) FROM cli_file;
LOAD DATA LOCAL INFILE '%[1]s/absent.tsv' INTO TABLE cli_file; SELECT COUNT(*) FROM cli_file;`, dir)
	out, complaints, err := commandLine(ctx, to, sql, "-vv", "--force")
	anonymous := func(b []byte) []string { return lines(bytes.ReplaceAll(b, []byte(dir), []byte("DIR"))) }
	return saw("local-infile", map[string][]string{"out": anonymous(out), "err": anonymous(complaints)}), err
}

// infileText is a file for LOAD DATA: 500 rows, tab-separated.
var infileText = func() string {
	var text strings.Builder
	for i := range 500 {
		fmt.Fprintf(&text, "%d\tname %d\n", i, i)
	}
	return text.String()
}()

func commandLineLarge(ctx context.Context, to Endpoint) (Finding, error) {
	value := strings.Repeat("0123456789abcdef", LargeSize/16)
	sql := "DROP TABLE IF EXISTS cli_large; CREATE TABLE cli_large (v LONGTEXT);\nINSERT INTO cli_large VALUES ('" + value +
		"');\nSELECT v FROM cli_large;\n"
	out, complaints, err := commandLine(ctx, to, sql, "--raw", "--skip-column-names")
	if err != nil {
		return Finding{}, fmt.Errorf("large: %w: %s", err, complaints)
	}
	got := bytes.TrimSuffix(out, []byte("\n"))
	return saw("large", map[string]any{"bytes": len(got), "sha256": hash(got), "intact": string(got) == value, "err": lines(complaints)}), nil
}

func hash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
