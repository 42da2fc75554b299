"""What is wrong with a patch."""

from ehr.errors import Invalid


class PatchRefused(Invalid):
    """The instructions do not fit the resource."""

    code = "processing"
