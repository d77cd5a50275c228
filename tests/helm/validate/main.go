// Command validate checks Kubernetes manifests as an API server would: decoding is strict (unknown,
// misspelt and repeated fields are errors), defaults are set, and the validation of Kubernetes itself
// runs over the result. Pods must also meet the Pod Security Standard "restricted". The resources of
// the Prometheus operator are decoded strictly.
//
//	validate < manifests.yaml
//
// Exit code: 0 all are valid, 1 faults (on standard output), 2 unreadable input.
package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/util/yaml"
	podutil "k8s.io/kubernetes/pkg/api/pod"
	"k8s.io/kubernetes/pkg/apis/apps"
	appsinstall "k8s.io/kubernetes/pkg/apis/apps/install"
	appsvalidation "k8s.io/kubernetes/pkg/apis/apps/validation"
	"k8s.io/kubernetes/pkg/apis/core"
	coreinstall "k8s.io/kubernetes/pkg/apis/core/install"
	corevalidation "k8s.io/kubernetes/pkg/apis/core/validation"
	"k8s.io/kubernetes/pkg/apis/networking"
	networkinginstall "k8s.io/kubernetes/pkg/apis/networking/install"
	networkingvalidation "k8s.io/kubernetes/pkg/apis/networking/validation"
	"k8s.io/kubernetes/pkg/apis/policy"
	policyinstall "k8s.io/kubernetes/pkg/apis/policy/install"
	policyvalidation "k8s.io/kubernetes/pkg/apis/policy/validation"
	podsecurity "k8s.io/pod-security-admission/api"
	podsecuritypolicy "k8s.io/pod-security-admission/policy"
)

const namespace = "default" // helm template leaves it to the API server

type validator struct {
	decoder  runtime.Decoder
	restrict podsecuritypolicy.Evaluator
}

func newValidator() (*validator, error) {
	scheme := runtime.NewScheme()
	coreinstall.Install(scheme)
	appsinstall.Install(scheme)
	networkinginstall.Install(scheme)
	policyinstall.Install(scheme)
	if err := monitoring.AddToScheme(scheme); err != nil {
		return nil, err
	}
	evaluator, err := podsecuritypolicy.NewEvaluator(podsecuritypolicy.DefaultChecks())
	codecs := serializer.NewCodecFactory(scheme, serializer.EnableStrict)
	decoder := codecs.UniversalDecoder(core.SchemeGroupVersion, apps.SchemeGroupVersion,
		networking.SchemeGroupVersion, policy.SchemeGroupVersion, monitoring.SchemeGroupVersion)
	return &validator{decoder, evaluator}, err
}

func (v *validator) podSecurity(meta *metav1.ObjectMeta, spec *corev1.PodSpec) error {
	level := podsecurity.LevelVersion{Level: podsecurity.LevelRestricted, Version: podsecurity.LatestVersion()}
	for _, result := range v.restrict.EvaluatePod(level, meta, spec) {
		if !result.Allowed {
			return fmt.Errorf("not restricted: %s: %s", result.ForbiddenReason, result.ForbiddenDetail)
		}
	}
	return nil
}

// firstPod is what the controller creates: Kubernetes validates most of a template only then.
func firstPod(set *apps.StatefulSet) *core.Pod {
	pod := &core.Pod{ObjectMeta: set.Spec.Template.ObjectMeta, Spec: set.Spec.Template.Spec}
	pod.Name = set.Name + "-0"
	pod.Namespace = set.Namespace
	return pod
}

// faults returns what an API server would answer.
func faults(object runtime.Object) error {
	var list field.ErrorList
	switch o := object.(type) {
	case *core.Service:
		if o.Spec.ClusterIP != "" { // as the API server does before it validates
			o.Spec.ClusterIPs = []string{o.Spec.ClusterIP}
		}
		list = corevalidation.ValidateServiceCreate(o)
	case *core.ConfigMap:
		list = corevalidation.ValidateConfigMap(o)
	case *core.Secret:
		list = corevalidation.ValidateSecret(o)
	case *core.ServiceAccount:
		list = corevalidation.ValidateServiceAccount(o)
	case *core.Pod:
		options := podutil.GetValidationOptionsFromPodSpecAndMeta(&o.Spec, nil, &o.ObjectMeta, nil)
		list = corevalidation.ValidatePodCreate(o, options)
	case *apps.StatefulSet:
		options := podutil.GetValidationOptionsFromPodTemplate(&o.Spec.Template, nil)
		list = appsvalidation.ValidateStatefulSet(o, options)
		list = append(list, corevalidation.ValidatePodCreate(firstPod(o), options)...)
	case *policy.PodDisruptionBudget:
		list = policyvalidation.ValidatePodDisruptionBudget(o, policyvalidation.PodDisruptionBudgetValidationOptions{})
	case *networking.NetworkPolicy:
		list = networkingvalidation.ValidateNetworkPolicy(o, networkingvalidation.NetworkPolicyValidationOptions{})
	case *monitoring.ServiceMonitor, *monitoring.PrometheusRule:
	default:
		return fmt.Errorf("no validation for %T", object)
	}
	return list.ToAggregate()
}

// firstLine is the comment "# Source: ..." of helm template.
func firstLine(document []byte) []byte {
	line, _, _ := bytes.Cut(bytes.TrimLeft(document, "-\n"), []byte("\n"))
	return line
}

// check returns the name of the object, and what is wrong with it.
func (v *validator) check(document []byte) (string, error) {
	object, kind, err := v.decoder.Decode(document, nil, nil)
	if err != nil {
		return string(firstLine(document)), err
	}
	meta := object.(metav1.Object)
	name := fmt.Sprintf("%s %s", kind.Kind, meta.GetName())
	if meta.GetNamespace() == "" {
		meta.SetNamespace(namespace)
	}
	if err := faults(object); err != nil {
		return name, err
	}
	switch kind.Kind { // in the version of the manifest
	case "StatefulSet":
		set := &appsv1.StatefulSet{}
		err = yaml.Unmarshal(document, set)
		return name, errors.Join(err, v.podSecurity(&set.Spec.Template.ObjectMeta, &set.Spec.Template.Spec))
	case "Pod":
		pod := &corev1.Pod{}
		err = yaml.Unmarshal(document, pod)
		return name, errors.Join(err, v.podSecurity(&pod.ObjectMeta, &pod.Spec))
	}
	return name, nil
}

func run(in io.Reader) (int, error) {
	validator, err := newValidator()
	if err != nil {
		return 2, err
	}
	reader := yaml.NewYAMLReader(bufio.NewReader(in))
	code, count := 0, 0
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 2, err
		}
		if content, err := yaml.ToJSON(document); err == nil && bytes.Equal(content, []byte("null")) {
			continue // nothing but comments
		}
		name, err := validator.check(document)
		if err != nil {
			fmt.Printf("%s: %v\n", name, err)
			code = 1
		}
		count++
	}
	if count == 0 {
		return 2, errors.New("no manifest on standard input")
	}
	fmt.Printf("%d manifests\n", count)
	return code, nil
}

func main() {
	code, err := run(os.Stdin)
	if err != nil {
		fmt.Fprintln(os.Stderr, "validate:", err)
	}
	os.Exit(code)
}
