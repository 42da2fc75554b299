"""The interactions that this server offers; the CapabilityStatement says what stands here."""

from fhir_api.bulk.export import export_group, export_patients, export_system
from fhir_api.bulk.files import file
from fhir_api.bulk.importing import import_files
from fhir_api.bulk.status import end, status
from fhir_api.interactions.audit_events import read_event, search_events, search_events_by_post
from fhir_api.interactions.bundle import bundle
from fhir_api.interactions.compartment import search_compartment, search_compartment_by_post
from fhir_api.interactions.create import create
from fhir_api.interactions.delete import conditional_delete, delete
from fhir_api.interactions.everything import everything
from fhir_api.interactions.history import history, history_of_system, history_of_type
from fhir_api.interactions.latest import last_n
from fhir_api.interactions.match import match
from fhir_api.interactions.meta import meta, meta_add, meta_delete
from fhir_api.interactions.parameters import check_parameters
from fhir_api.interactions.patch import conditional_patch, patch
from fhir_api.interactions.read import read
from fhir_api.interactions.search import search_by_post, search_type
from fhir_api.interactions.update import conditional_update, update
from fhir_api.interactions.validate import validate
from fhir_api.interactions.vread import vread
from fhir_api.routing import Operation, register, register_operation

_SEARCH = "search-type"


def register_all() -> None:
    """Register every interaction; calling it again changes nothing."""
    register("base", "POST", bundle, "batch", "E")
    register("type", "GET", search_type, _SEARCH, "E")
    register("type", "POST", create, "create", "C")
    register("type", "PUT", conditional_update, "update", "U")
    register("type", "PATCH", conditional_patch, "patch", "U")
    register("type", "DELETE", conditional_delete, "delete", "D")
    register("type-search", "POST", search_by_post, _SEARCH, "E")
    register("instance", "GET", read, "read", "R")
    register("instance", "PUT", update, "update", "U")
    register("instance", "PATCH", patch, "patch", "U")
    register("instance", "DELETE", delete, "delete", "D")
    register("history", "GET", history, "history-instance", "R")
    register("type-history", "GET", history_of_type, "history-type", "R")
    register("system-history", "GET", history_of_system, "history-system", "R")
    register("version", "GET", vread, "vread", "R")
    for shape, handler in (
        ("system-export", export_system),
        ("patient-export", export_patients),
        ("group-export", export_group),
    ):
        register(shape, "GET", handler, "operation", "E")
        register(shape, "POST", handler, "operation", "E")
    register("base$import", "POST", import_files, "operation", "C")
    register("bulk-status", "GET", status, "operation", "E")
    register("bulk-status", "DELETE", end, "operation", "D")
    register("bulk-file", "GET", file, "operation", "R", is_json=False)
    register("type:AuditEvent", "GET", search_events, _SEARCH, "E")
    register("type-search:AuditEvent", "POST", search_events_by_post, _SEARCH, "E")
    register("instance:AuditEvent", "GET", read_event, "read", "R")
    register("type:Parameters", "POST", check_parameters, "create", "C")
    register("type:Parameters", "PUT", check_parameters, "update", "U")
    register("instance:Parameters", "PUT", check_parameters, "update", "U")
    register("compartment", "GET", search_compartment, _SEARCH, "E")
    register("compartment-search", "POST", search_compartment_by_post, _SEARCH, "E")
    _register_operations()


def _register_operations() -> None:
    base = "http://hl7.org/fhir/OperationDefinition"
    patients = Operation("everything", f"{base}/Patient-everything", ("type", "instance"), ("Patient",))
    encounters = Operation("everything", f"{base}/Encounter-everything", ("instance",), ("Encounter",))
    register_operation(patients, everything)
    register_operation(encounters, everything)
    register_operation(Operation("lastn", f"{base}/Observation-lastn", ("type",), ("Observation",)), last_n)
    register_operation(Operation("match", f"{base}/Patient-match", ("type",), ("Patient",)), match, methods=("POST",))
    register_operation(Operation("meta", f"{base}/Resource-meta", ("instance",), ()), meta, "R")
    register_operation(Operation("validate", f"{base}/Resource-validate", ("type", "instance"), ()), validate)
    for name, handler in (("meta-add", meta_add), ("meta-delete", meta_delete)):
        register_operation(Operation(name, f"{base}/Resource-{name}", ("instance",), ()), handler, "U", ("POST",))
