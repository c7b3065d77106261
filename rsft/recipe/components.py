"""Sections of a recipe, the values of their keys, and the words for what is allowed.

The keys of a `ComponentSection` are the fields of the component that it names. A
component is a frozen dataclass in a `rsft.utils.registry.Registry`. Each of its fields
is a key of the recipe, which a `rsft.utils.settings.Setting` in its type describes.
"""

import dataclasses
import functools
import types
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    create_model,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from rsft.utils.registry import Registry
from rsft.utils.settings import Setting


def as_text(value: object) -> object:
    """Return a whole number as text: YAML reads an unquoted 12 as a number."""
    if type(value) is int:
        return str(value)
    return value


def as_lower_case(value: object) -> object:
    """Return a text in lower case, and any other value unchanged."""
    if isinstance(value, str):
        return value.lower()
    return value


Unit = Annotated[
    Literal[
        "uint8",
        "uint16",
        "amplitude",
        "intensity",
        "sigma0",
        "db",
        "gamma0",
        "gamma0_db",
        "beta0",
        "sentinel1_dn",
    ],
    BeforeValidator(as_lower_case),
]
"""The units of `rsft.data.imagery.units`."""


def _text(pattern: str, words: str) -> Any:
    return Field(pattern=pattern, json_schema_extra={"words": words})


def _must(condition: Callable[[Any], bool], message: str) -> AfterValidator:
    def check(value: Any) -> Any:
        if not condition(value):
            raise ValueError(message)
        return value

    return AfterValidator(check)


Text = Annotated[str, _text(r"^[^\x00]+$", "text that is not empty")]
FolderName = Annotated[
    str,
    BeforeValidator(as_text),
    _text(
        r"^[^/\\.\x00-\x1f][^/\\\x00-\x1f]*$",
        "the name of a folder, without slash or leading dot",
    ),
]
Expression = Annotated[
    str, BeforeValidator(as_text), _text(r"^[\w .+*/()-]+$", "expressions over bands")
]


Pair = Annotated[
    list[float],
    Field(
        min_length=2,
        max_length=2,
        json_schema_extra={"words": "a pair of rising limits"},
    ),
    _must(lambda pair: pair[0] < pair[1], "the first limit must be below the second"),
]


Fold = Annotated[
    str,
    _text(r"^[1-9][0-9]?/[1-9][0-9]?$", "a fold and the number of folds, such as 1/3"),
    _must(
        lambda fold: int(fold.split("/")[0]) <= int(fold.split("/")[1]) > 1,
        "the fold must be one of several",
    ),
]

BlockIndices = Annotated[
    list[Annotated[int, Field(ge=0)]],
    Field(json_schema_extra={"words": "a list of distinct whole numbers >= 0"}),
    _must(lambda indices: len(set(indices)) == len(indices), "name each block once"),
]
Pairs = Annotated[
    list[Pair], Field(min_length=1, json_schema_extra={"words": "a list of such pairs"})
]


class Section(BaseModel):
    """A closed set of keys; an unknown key or a value of another type is a fault.

    The docstring of a key is its description in recipes, help and documentation.
    """

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        for info in cls.model_fields.values():
            info.description = " ".join((info.description or "").split())

    @classmethod
    def about(cls) -> str:
        """Return the docstring as one line."""
        return " ".join((cls.__doc__ or "").split())

    @property
    def unneeded(self) -> dict[str, str]:
        """Keys without an effect beside the others, with the message for each."""
        return {}

    @property
    def key_infos(self) -> dict[str, FieldInfo]:
        """The pydantic field of every key."""
        return self.all_key_infos()

    @classmethod
    def all_key_infos(cls) -> dict[str, FieldInfo]:
        """Return the pydantic field of every key that the section may have."""
        return dict(cls.model_fields)


_NOUNS = {
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}
_SIGNS = {
    "minimum": ">=",
    "exclusiveMinimum": ">",
    "maximum": "<=",
    "exclusiveMaximum": "<",
}


def allowed_values(schema: dict[str, Any]) -> str:
    """Return what a field accepts, in words such as "a whole number >= 1, or null"."""
    if "anyOf" in schema:
        return ", or ".join(map(allowed_values, schema["anyOf"]))
    if "words" in schema:
        return str(schema["words"])
    if "const" in schema or "enum" in schema:
        return " | ".join(map(str, schema.get("enum") or [schema["const"]]))
    if schema["type"] == "array":
        item = allowed_values(schema["items"]).removeprefix("a ")
        return f"a list of {item.replace('number', 'numbers')}"
    limits = {sign: schema[bound] for bound, sign in _SIGNS.items() if bound in schema}
    # pydantic before 2.10 writes the bound 0 of a float as 0.0
    bounds = " and ".join(
        f"{sign} {str(limit).removesuffix('.0')}" for sign, limit in limits.items()
    )
    return f"{_NOUNS[schema['type']]} {bounds}".rstrip()


WORDS = "allowed"
"""Type of the errors whose context has what is allowed in `words`."""


@dataclasses.dataclass(frozen=True)
class RegisteredName:
    """Annotation of text that must be a name in a registry."""

    registry: Registry[Any]

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Add the check to the schema of the text."""
        return core_schema.no_info_after_validator_function(
            self._check, handler(source)
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Add the known names as the words for what is allowed."""
        return {**handler(schema), "words": _list_names(self.registry)}

    def _check(self, name: str) -> str:
        words = _lookup_error(self.registry, name)
        if words:
            raise PydanticCustomError(WORDS, "{words}", {"words": words})
        return name


class ComponentSection(Section):
    """A section that names a component of a registry and holds its settings.

    Attributes:
        registry: where its components are.
        selector: the key that names one of them. It is a field of the subclass, with a
            default.
    """

    model_config = ConfigDict(extra="allow")

    registry: ClassVar[Registry[Any]]
    selector: ClassVar[str]

    @property
    def component(self) -> Any:
        """The dataclass that the section names."""
        return self.registry[getattr(self, self.selector)]

    @property
    def title(self) -> str:
        """The component as reports print it; one may name what its settings choose."""
        return str(getattr(self.build(), "full_title", self.component.title))

    def build(self) -> Any:
        """Return an instance of the component with the settings of the recipe."""
        return self.component(**self.settings)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the component by key, in the order of its fields."""
        return dict(self.model_extra or {})

    @property
    def unneeded(self) -> dict[str, str]:
        """The settings without an effect beside the others."""
        return dict(getattr(self.build(), "unneeded", {}))

    @property
    def key_infos(self) -> dict[str, FieldInfo]:
        """The field of every key, the selector first."""
        return {
            self.selector: type(self).model_fields[self.selector],
            **settings_model(self.component).model_fields,
        }

    @classmethod
    def all_key_infos(cls) -> dict[str, FieldInfo]:
        """Return the field of every key that any component takes.

        If several components take a key, the field is that of the first one.
        """
        infos = {cls.selector: cls.model_fields[cls.selector]}
        for component in cls.components():
            for key, info in settings_model(component).model_fields.items():
                infos.setdefault(key, info)
        return infos

    @classmethod
    def components(cls) -> list[Any]:
        """Return the dataclasses of the registry that can be imported."""
        components = []
        for name in cls.registry.names():
            # a broken package of somebody else must not hide the faults of a recipe
            with suppress(Exception):
                components.append(cls.registry[name])
        return components

    @model_validator(mode="wrap")
    @classmethod
    def _fill_settings(cls, values: Any, handler: Any) -> Any:
        """Check the settings against the dataclass and add its defaults."""
        if not isinstance(values, Mapping):
            return handler(values)
        name = values.get(cls.selector, cls.model_fields[cls.selector].default)
        if _lookup_error(cls.registry, name):  # a fault of the selector
            return handler(values)
        given = {key: value for key, value in values.items() if key != cls.selector}
        settings = settings_model(cls.registry[name]).model_validate(given)
        section = handler({cls.selector: name, **dict(settings)})
        # the defaults do not count as set
        object.__setattr__(section, "__pydantic_fields_set__", set(values))
        return section


def _list_names(registry: Registry[Any]) -> str:
    names = " | ".join(registry.names())
    return names or f"the name of an installed {registry.kind}"


def _lookup_error(registry: Registry[Any], name: object) -> str:
    """Return why a name is not allowed; "" if it is."""
    if not isinstance(name, str) or name not in registry:
        return _list_names(registry)
    try:
        registry[name]
    # a package of somebody else may raise anything at import
    except Exception as error:
        fault = f"{type(error).__name__}: {error}"
        return f"this {registry.kind} cannot be imported: {fault}"
    return ""


@functools.cache
def settings_model(component: type[Any]) -> type[Section]:
    """Return the model of a component: a section with one key for each field."""
    hints = get_type_hints(component, include_extras=True)
    definitions: dict[str, Any] = {}
    for info in dataclasses.fields(component):
        default: dict[str, Any] = {"default_factory": info.default_factory}
        if info.default_factory is dataclasses.MISSING:
            default = {
                "default": ... if info.default is dataclasses.MISSING else info.default
            }
        kind, setting = hints[info.name], Setting()
        if get_origin(kind) is Annotated:
            kind, setting = get_args(kind)
        described = Field(**default, description=setting.help)
        definitions[info.name] = _annotation(kind, setting), described
    return create_model(component.__name__, __base__=Section, **definitions)


def _annotation(hint: Any, setting: Setting, *, numeric: bool = False) -> Any:
    """Return the pydantic annotation of a field, with the limits of its setting.

    An unquoted 12 is read as text, unless the type is a branch of a `numeric` union,
    which has numbers.
    """
    origin = get_origin(hint)
    arguments = get_args(hint)
    if origin in (Union, types.UnionType):
        numeric = bool({int, float} & set(arguments))
        branches = [_annotation(x, setting, numeric=numeric) for x in arguments]
        return Union[tuple(branches)]  # noqa: UP007
    if hint in (int, float):
        limits = Field(ge=setting.ge, gt=setting.gt, lt=setting.lt)
        return Annotated[hint, limits]
    if hint is str:
        words = {"words": setting.words}
        text = Annotated[str, Field(pattern=setting.pattern, json_schema_extra=words)]
        if numeric:
            return text
        return Annotated[text, BeforeValidator(as_text)]
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _mapping_annotation(arguments[1], setting)
    if isinstance(origin, type) and issubclass(origin, Sequence):
        item = _annotation(
            arguments[0], dataclasses.replace(setting, pattern=None, words="text")
        )
        return Annotated[list[item], Field(min_length=1)]  # type: ignore[valid-type]
    return hint


def _mapping_annotation(value_type: Any, setting: Setting) -> Any:
    """Return the annotation of values by pattern of sites; 0 leaves a site out."""
    words = "numbers by pattern of sites"
    if value_type is Any:
        words = setting.words
    if value_type is int:
        words += ", such as {blocks.*.q: 8, '*': 4}"
    if setting.ge is not None or setting.gt is not None:
        setting = dataclasses.replace(setting, ge=0, gt=None)
    item = _annotation(value_type, setting, numeric=True)
    extra: dict[str, Any] = {"words": words}
    return Annotated[dict[str, item], Field(min_length=1, json_schema_extra=extra)]  # type: ignore[valid-type]
