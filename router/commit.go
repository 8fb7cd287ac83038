package router

// MayCommit tells whether a statement in a transaction may end it with a commit:
// COMMIT itself, what commits implicitly (MySQL manual, "Statements That Cause
// an Implicit Commit"), and all whose text does not tell. When the server is
// lost under one, whether the transaction took effect is unknown.
func (st *Statement) MayCommit() bool {
	switch st.Kind {
	case KindSelect, KindInsert, KindReplace, KindUpdate, KindDelete, KindDo, KindRollback, KindSavepoint, KindUse, KindShow,
		KindExplain, KindHandler, KindDiagnostics, KindEmpty:
		return st.Multi
	}
	return true
}
