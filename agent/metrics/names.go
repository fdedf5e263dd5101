package metrics

import "github.com/prometheus/client_golang/prometheus"

// kind is what Prometheus calls the type of a metric.
type kind string

const (
	counter   kind = "counter"
	gauge     kind = "gauge"
	histogram kind = "histogram"
)

// metric is one name of the contract.
type metric struct {
	name   string
	kind   kind
	help   string
	labels []string
	desc   *prometheus.Desc
}

// all are the agent's own metrics, in the order in which docs/metrics.md has them.
var all []*metric

func define(kind kind, name, help string, labels ...string) *metric {
	m := &metric{name, kind, help, labels, prometheus.NewDesc(name, help, labels, nil)}
	all = append(all, m)
	return m
}

// The metrics. A name, once released, keeps its meaning and its labels.
var (
	requests = define(counter, "sealsign_requests_total",
		"Requests by what became of them: allowed, denied, or failed after they were allowed; reason is empty for the first.",
		"caller", "key", "operation", "outcome", "reason")
	requestSeconds = define(histogram, "sealsign_request_duration_seconds",
		"Time from a request's arrival to its answer; of a forward, to the beginning of the venue's answer.", "mode")
	stepSeconds = define(histogram, "sealsign_step_duration_seconds",
		"Time that each step of a request's way took.", "step")
	connections = define(gauge, "sealsign_connections", "Open connections of agent.sock and http.sock.")
	streams     = define(gauge, "sealsign_streams", "Calls and streams in use on agent.sock and admin.sock.")

	keyInfo = define(gauge, "sealsign_key_info", "Always 1: what the config says of each key.",
		"key", "venue", "environment", "algorithm", "protection")
	keyState = define(gauge, "sealsign_key_state",
		"Always 1: the state that each key is in, as sealsign key list has it.", "key", "state")
	keyVersion = define(gauge, "sealsign_key_version",
		"The version that signs (which is active), and the one that the config asks for (wanted); 0 is none.", "key", "which")
	keyImported = define(gauge, "sealsign_key_imported_timestamp_seconds",
		"When the version that signs was imported; absent where none is loaded or listed yet.", "key")
	keyExpires = define(gauge, "sealsign_key_expires_timestamp_seconds",
		"When the key stops signing by its expires; absent where it has none.", "key")
	keyRotation = define(gauge, "sealsign_key_rotation_due_timestamp_seconds",
		"When the key's rotation is due by its max_age; absent where it has none.", "key")
	keyUsed = define(gauge, "sealsign_key_last_used_timestamp_seconds",
		"When the key was used last, to about a minute; absent where it never was.", "key")
	keyVenueExpires = define(gauge, "sealsign_key_venue_expires_timestamp_seconds",
		"When the version that signs ends at its venue; absent where the venue doesn't say.", "key")
	keyRights = define(gauge, "sealsign_key_rights_warnings",
		"How many things sealsign doctor warns of in what the venue said the key may do there; absent where it isn't known.", "key")
	storeTrusted = define(gauge, "sealsign_store_trusted",
		"1 if the TPM vouches that the keys on disk are the newest state of this host.")

	tpmUp      = define(gauge, "sealsign_tpm_up", "1 if the TPM answered when it was last asked, which is once a minute where there are requests.")
	tpmQueue   = define(gauge, "sealsign_tpm_queue_length", "Operations that wait for the TPM, the running one included.")
	tpmSeconds = define(histogram, "sealsign_tpm_command_duration_seconds", "Time that each TPM command took.", "command")
	tpmErrors  = define(counter, "sealsign_tpm_errors_total",
		"TPM commands that failed, by the code of the answer, or NO_ANSWER.", "command", "code")

	auditUp      = define(gauge, "sealsign_audit_up", "1 if the audit log takes records; while it doesn't, nothing leaves.")
	auditRecords = define(gauge, "sealsign_audit_tree_size", "Records in the audit log.")
	auditCovered = define(gauge, "sealsign_audit_checkpoint_tree_size", "Records that the newest checkpoint covers.")
	auditSigned  = define(gauge, "sealsign_audit_checkpoint_timestamp_seconds",
		"When the newest checkpoint was made; absent where there is none.")
	auditSeconds  = define(histogram, "sealsign_audit_sync_duration_seconds", "Time that bringing records on disk took.")
	diskAvailable = define(gauge, "sealsign_disk_available_bytes", "Space that the state folder's disk has left for the daemon.")
	diskSize      = define(gauge, "sealsign_disk_size_bytes", "Size of the state folder's disk.")
	ledgerUp      = define(gauge, "sealsign_ledger_up", "1 if nonces and limits can be kept.")

	configOK     = define(gauge, "sealsign_config_last_reload_successful", "0 if the last edit of the config was refused, and the one before is in force.")
	configLoaded = define(gauge, "sealsign_config_loaded_timestamp_seconds", "When the config in force was loaded.")
	configWarned = define(gauge, "sealsign_config_warnings", "Warnings about the config in force.")
	clockSkew    = define(gauge, "sealsign_clock_skew_seconds",
		"How far a venue's clock is ahead of this host's; absent until it was read.", "venue", "host")
	buildInfo = define(gauge, "sealsign_build_info", "Always 1: which program this is.", "version", "go_version")
)
